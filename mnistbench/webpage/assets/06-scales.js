// Axes: from values to places in pixels, with ticks whose names have room.

const CHARACTER = 6.7; // pixels of a character of a chart's text, on average and rather more than less
const textWidth = (text) => CHARACTER * text.length;
const LEAST_DECADES = 0.4; // shortest logarithmic axis: near values look near

/** Returns a logarithmic axis from pixel `start` to `end` that holds all values. */
function logAxis(values, start, end, name, upright = false) {
  const logs = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  let [low, high] = [Math.min(...logs), Math.max(...logs)];
  const missing = Math.max(0, LEAST_DECADES - (high - low)) / 2 + 0.04 * Math.max(high - low, LEAST_DECADES);
  [low, high] = [low - missing, high + missing];
  const at = (value) => start + ((Math.log10(value) - low) / (high - low)) * (end - start);
  const decades = [];
  for (let decade = Math.floor(low); decade <= Math.ceil(high); decade++) decades.push(decade);
  const sets = [[1, 2, 5], [1]].map((digits) =>
    decades.flatMap((decade) => digits.map((digit) => Number(`${digit}e${decade}`))),
  );
  for (let step = 2; step <= decades.length; step++)
    sets.push(decades.filter((decade) => decade % step === 0).map((decade) => 10 ** decade));
  return {
    at,
    name,
    ticks: roomy(
      sets.map((set) => set.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high)),
      at,
      name,
      upright,
    ),
  };
}

/** Returns the linear axis of shares from 0 at pixel `start` to 1; what is above 1 is at `end`. */
function shareAxis(start, end, name) {
  const high = 1.06;
  const at = (value) => start + (Math.min(value, high) / high) * (end - start);
  const sets = [0.1, 0.2, 0.25, 0.5, 1].map((step) => {
    const ticks = [];
    for (let tick = 0; tick <= 1.001; tick += step) ticks.push(tick);
    return ticks;
  });
  return { at, name, ticks: roomy(sets, at, name, false) };
}

/** Returns the first set of ticks whose names do not touch each other. */
function roomy(sets, at, name, upright) {
  const apart = (one, other) => {
    const room = upright ? 20 : (textWidth(name(one)) + textWidth(name(other))) / 2 + 14;
    return Math.abs(at(other) - at(one)) >= room;
  };
  const filled = sets.filter((set) => set.length > 0);
  return (
    filled.find((set) => set.every((tick, i) => i === 0 || apart(set[i - 1], tick))) ?? filled.at(-1)?.slice(-1) ?? []
  );
}

/** Returns places at least `gap` apart, near those wanted, between two ends; in the order wanted. */
function spread(wanted, gap, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const groups = [];
  for (const i of order) {
    groups.push({ members: [i], at: wanted[i] });
    while (groups.length > 1) {
      const [upper, lower] = groups.slice(-2);
      const touch = ((upper.members.length + lower.members.length) / 2) * gap;
      if (lower.at - upper.at >= touch) break;
      const members = [...upper.members, ...lower.members];
      const middle = (upper.at * upper.members.length + lower.at * lower.members.length) / members.length;
      groups.splice(-2, 2, { members, at: middle });
    }
  }
  const places = new Array(wanted.length);
  let free = low;
  for (const { members, at } of groups) {
    let place = Math.max(free, Math.min(at - ((members.length - 1) / 2) * gap, high - (members.length - 1) * gap));
    for (const i of members) {
      places[i] = place;
      place += gap;
    }
    free = place;
  }
  return places;
}
