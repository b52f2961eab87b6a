// Two forms of charts: lanes, one below the other on a common axis, and lines along commits or sizes.

const LANE = 22; // pixels of a lane
const TALL = 30; // of one whose rounds are of several processes
const NARROW = 560;
const CROWDED = 200; // points of a chart from which on they are small
const HEADING = 8.4; // pixels of a character of a heading

/** Makes an empty chart. */
function newChart(title, width, height) {
  const element = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title });
  return { element, width, height, marks: [], add: (...children) => element.append(...children) };
}

/** Returns the unit of an axis, or what of it stands before its first mark if it is wider than the chart. */
const fitting = (unit, width) => (textWidth(unit) < width - 16 ? unit : unit.split(/[,:]/)[0]);

const text = (x, y, words, attributes) => svg("text", { x, y, ...attributes }, words);

/** Draws lanes: groups with a heading, of lanes with a label, of marks with values.
 *
 * A spec has: title, groups [{heading, lanes: [{label, marks: [{value, low, high, rounds, told, ...}]}]}], axis (a
 * function of values, start and end), unit, and a reference [value, label] or null. Rounds are a list for each process.
 */
function laneChart(spec, width) {
  const narrow = width < NARROW;
  const lanes = spec.groups.flatMap((group) => group.lanes);
  const widest = (texts) => Math.max(0, ...texts.map((one) => textWidth(one)));
  const limit = narrow ? Math.floor((width - 110) / CHARACTER) : Math.floor((width * 0.3) / CHARACTER);
  const labels = new Map(lanes.map((lane) => [lane, shortened(lane.label, limit)]));
  const left = narrow ? 8 : 16 + widest([...labels.values()]);
  const right = narrow ? 12 : 12 + widest(lanes.flatMap((lane) => lane.marks.map((one) => one.told)));
  const least = (lane) => (lane.marks.some((one) => one.rounds?.length > 1) ? TALL : LANE);
  const heights = lanes.map((lane) => (narrow ? 20 : 4) + Math.max(least(lane), 19 * lane.marks.length));
  const headings = spec.groups.filter((group) => group.heading).length;
  const top = spec.reference ? 20 : 4;
  const bottom = top + heights.reduce((sum, one) => sum + one, 0) + 30 * headings;
  const chart = newChart(spec.title, width, bottom + 44);
  const marks = lanes.flatMap((lane) => lane.marks);
  const extent = marks.flatMap((one) => [
    one.value,
    one.low ?? one.value,
    one.high ?? one.value,
    ...(one.rounds ?? []).flat(),
  ]);
  if (spec.reference) extent.push(spec.reference[0]);
  const axis = spec.axis(extent, left + 8, width - right - 8);
  drawAxis(chart, axis, top, bottom, left, width - right, spec);
  let y = top;
  for (const group of spec.groups) {
    if (group.heading) {
      chart.add(text(8, y + 20, shortened(group.heading, Math.floor(width / HEADING)), { class: "heading" }));
      y += 30;
    }
    for (const lane of group.lanes) {
      const height = heights[lanes.indexOf(lane)];
      drawLane(chart, axis, lane, labels.get(lane), { y, height, left, right, narrow });
      y += height;
    }
  }
  walkable(chart.element, chart.marks);
  return chart.element;
}

function drawAxis(chart, axis, top, bottom, left, right, spec) {
  for (const tick of axis.ticks) {
    const x = axis.at(tick);
    chart.add(svg("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom }));
    chart.add(text(x, bottom + 16, axis.name(tick), { class: "tick", "text-anchor": "middle" }));
  }
  chart.add(
    text((left + right) / 2, bottom + 36, fitting(spec.unit, chart.width), { class: "tick", "text-anchor": "middle" }),
  );
  if (!spec.reference) return;
  const [value, label] = spec.reference;
  const x = axis.at(value);
  chart.add(svg("line", { class: "reference", x1: x, x2: x, y1: top, y2: bottom }));
  const room = textWidth(label) / 2;
  chart.add(
    text(Math.min(Math.max(x, left + room), chart.width - room), 13, label, { class: "tick", "text-anchor": "middle" }),
  );
}

function drawLane(chart, axis, lane, label, { y, height, left, right, narrow }) {
  const middle = narrow ? 20 + (height - 20) / 2 : height / 2;
  const first = y + middle - ((lane.marks.length - 1) * 19) / 2;
  chart.add(
    narrow
      ? text(left, y + 13, label, { class: "label" })
      : text(left - 6, y + height / 2 + 4, label, { class: "label", "text-anchor": "end" }),
  );
  lane.marks.forEach((one, i) => {
    const at = first + 19 * i;
    const ends = one.low === null ? [null, null] : [axis.at(one.low), axis.at(one.high)];
    chart.add(svg("line", { class: "lane", x1: left, x2: chart.width - right, y1: at, y2: at }));
    chart.add(
      mark(chart, {
        ...one,
        x: axis.at(one.value),
        y: at,
        low: ends[0],
        high: ends[1],
        rounds: one.rounds?.map((rounds) => rounds.map(axis.at)),
      }),
    );
    chart.add(
      svg(
        "text",
        { class: "value", ...besideMark(chart, lane, axis.at(one.value), at, { y, right, narrow }) },
        one.told,
      ),
    );
  });
}

/** Places the value of a mark: right of the lanes; on a narrow chart above its lane, or where its lane is free. */
function besideMark(chart, lane, x, at, { y, right, narrow }) {
  if (!narrow) return { x: chart.width - right + 6, y: at + 4 };
  if (lane.marks.length === 1) return { x: chart.width - 8, y: y + 13, "text-anchor": "end" };
  return x > chart.width / 2 ? { x: 8, y: at + 4 } : { x: chart.width - 8, y: at + 4, "text-anchor": "end" };
}

/** Draws lines under a heading.
 *
 * A spec has: title, heading, series [{label, colour, dash, points: [{at, value, low, high, said, ...}]}], ticks [{at,
 * label, href}], place (a function of the axis' ends that returns one of `at`), unit, and measure, that of the upright
 * axis.
 */
function lineChart(spec, width) {
  const narrow = width < NARROW;
  const top = spec.heading ? 62 : 36;
  const key = narrow ? 20 * spec.series.length + 6 : 0; // pixels of the key below, where the ends have no room for one
  const height = Math.max(spec.heading ? 270 : 320, narrow ? 0 : 24 + top + 18 * spec.series.length);
  const most = narrow ? 0 : Math.floor((width * 0.3) / CHARACTER);
  const labels = spec.series.map((one) => shortened(one.label, Math.max(8, most)));
  const right = narrow ? 12 : 26 + Math.max(0, ...labels.map(textWidth));
  const chart = newChart(spec.title, width, height + key);
  const points = spec.series.flatMap((one) => one.points);
  const values = points.flatMap((one) => [one.value, one.low ?? one.value, one.high ?? one.value]);
  const vertical = logAxis(values, height - 48, top, (tick) => seconds(tick, 2), true);
  if (spec.heading) chart.add(text(8, 20, shortened(spec.heading, Math.floor(width / HEADING)), { class: "heading" }));
  chart.add(text(8, top - 20, fitting(spec.measure, width), { class: "tick" }));
  const left = 16 + Math.max(...vertical.ticks.map((tick) => textWidth(vertical.name(tick))));
  const place = spec.place(left + 14, width - right - 8);
  for (const tick of vertical.ticks) {
    const y = vertical.at(tick);
    chart.add(svg("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }));
    chart.add(text(left - 8, y + 4, vertical.name(tick), { class: "tick", "text-anchor": "end" }));
  }
  drawPlaces(chart, spec, place, height);
  for (const one of spec.series) drawSeries(chart, one, place, vertical, points.length > CROWDED);
  if (narrow) spec.series.forEach((one, i) => drawName(chart, one, 16, height + 12 + 20 * i, one.label));
  else drawEnds(chart, spec.series, labels, vertical, [top, height - 52], right);
  walkable(chart.element, chart.marks);
  return chart.element;
}

/** Draws the names of places along the horizontal axis, from the last as far as there is room. */
function drawPlaces(chart, spec, place, height) {
  let free = Infinity;
  for (const tick of [...spec.ticks].reverse()) {
    const [x, room] = [place(tick.at), textWidth(tick.label) / 2 + 6];
    if (x + room > free) continue;
    free = x - room;
    const label = text(x, height - 28, tick.label, { class: "tick", "text-anchor": "middle" });
    chart.add(
      tick.href
        ? svg("a", { href: tick.href, target: "_blank", rel: "noopener noreferrer", tabindex: -1 }, label)
        : label,
    );
  }
  chart.add(
    text(chart.width / 2, height - 10, fitting(spec.unit, chart.width), { class: "tick", "text-anchor": "middle" }),
  );
}

function drawSeries(chart, series, place, vertical, small) {
  const d = series.points
    .map((one, i) => `${i ? "L" : "M"}${place(one.at).toFixed(1)} ${vertical.at(one.value).toFixed(1)}`)
    .join("");
  chart.add(svg("path", { class: `line ${series.colour}`, d, "stroke-dasharray": series.dash }));
  const at = (value) => vertical.at(value).toFixed(1);
  const bars = series.points.map((one) => `M${place(one.at).toFixed(1)} ${at(one.low)}V${at(one.high)}`).join("");
  chart.add(svg("path", { class: `interval ${series.colour}`, d: bars }));
  for (const one of series.points) {
    const told = { ...one, x: place(one.at), y: vertical.at(one.value), low: null, high: null, small };
    chart.add(mark(chart, { ...told, label: one.said }));
  }
}

/** Writes each series' name beside its end, without overlap. */
function drawEnds(chart, series, labels, vertical, [top, bottom], right) {
  const ends = series.map((one) => vertical.at(one.points.at(-1).value));
  const places = spread(ends, 17, top, bottom);
  series.forEach((one, i) => drawName(chart, one, chart.width - right + 12, places[i], labels[i]));
}

/** Writes a series' name after its mark. */
function drawName(chart, series, x, y, label) {
  const [{ shape, hollow }] = series.points;
  const path = svg("path", { class: hollow ? "shape hollow" : "shape", d: shapePath(shape, x, y, 3.5) });
  chart.add(svg("g", { class: series.colour, "aria-hidden": "true" }, path));
  chart.add(text(x + 10, y + 4, label, { class: "label" }));
}
