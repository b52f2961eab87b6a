// The answers in words: what is fastest, by how much, and how sure that is.

/** Groups values by what a function says of them, in the order first met. */
function grouped(values, of) {
  const found = new Map();
  for (const value of values) {
    const key = of(value);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(value);
  }
  return found;
}

/** Returns the row measured last of each case of those given: of what a name tells apart, on each machine. */
function lastOfCases(rows) {
  const last = new Map();
  for (const row of rows) {
    const key = JSON.stringify([row.machine.place, row.name, row.device, row.threads, row.among]);
    if (!last.has(key) || time(last.get(key).run.measured) <= time(row.run.measured)) last.set(key, row);
  }
  return [...last.values()];
}

/** Rows of one process by itself: several ranks are no rivals of it. */
const alone = (rows) => rows.filter((row) => row.ranks === null);

/** Returns a row's rival: the fastest one of another backend. */
const rivalOf = (fastest, rows) => rows.find((row) => row.backend !== fastest.backend);

/** Tells what the times alone give, if that is another ratio than the paired one. */
function besideTimes(found, over, row) {
  const plain = over.timing.value / row.timing.value;
  if (!found.paired || Math.abs(plain / found.value - 1) < 0.02) return "";
  return `; the two times alone give ${times(plain)}`;
}

const heldIn = (row) => (row.processes.length > 1 ? `${row.processes.length} processes` : "one process");

/** Tells how sure it is that one row is faster than another: a word, the ratio, and why. */
function sureness(row, other) {
  const found = speedup(row, { backend: other.backend, dtype: other.dtype });
  if (!found?.paired || found.over !== other) {
    const value = other.timing.value / row.timing.value;
    return { word: "not paired", value, ratio: `≈ ${times(value)}`, why: "did not run in the same rounds: no interval" };
  }
  const ends = found.low === null ? "" : ` (${interval(found.low, found.high, times)})`;
  const said = { value: found.value, ratio: times(found.value) + ends };
  const rounds = `within the same rounds of ${heldIn(row)}${besideTimes(found, other, row)}`;
  switch (side(found)) {
    case null:
      return { ...said, word: "too few rounds", why: `${rounds}; too few for an interval` };
    case 0:
      return { ...said, word: "not told apart", why: `${rounds}; the interval holds 1, so either may be the faster one` };
    case -1:
      return { ...said, word: "slower in pairs", why: `${rounds}, where it was the slower one` };
    default:
      if (row.processes.length > 1) return { ...said, word: "sure", why: rounds };
      return { ...said, word: "in this process", why: `${rounds}; another process may differ` };
  }
}

const chip = (word) => html("span", { class: `chip ${word === "sure" ? "good" : "care"}` }, word);

/** Makes the answer for one machine: its fastest row, beside the next backend and beside the baseline. */
function answer(machine, rows, view) {
  const [fastest] = rows;
  const rival = rivalOf(fastest, rows);
  const parts = [html("p", { class: "where" }, machine.label), winner(fastest)];
  if (rival) {
    const { word, ratio, why } = sureness(fastest, rival);
    const next = ` as fast as the next backend, ${rival.name}, ${why}.`;
    parts.push(html("p", null, chip(word), " ", html("strong", null, ratio), next));
  } else parts.push(html("p", null, "No other backend is shown to compare with."));
  const found = speedup(fastest, view.baseline);
  if (found && found.over !== fastest && found.over !== rival) {
    const how = found.paired ? `within the same rounds${besideTimes(found, found.over, fastest)}` : whyUncertain(found);
    parts.push(html("p", null, html("strong", null, speedupText(found)), ` as fast as ${found.over.name}, ${how}.`));
  }
  const other = rows.find((row) => row.backend === fastest.backend && row.dtype !== fastest.dtype);
  if (other) parts.push(html("p", { class: "quiet" }, `In ${other.dtype} ${other.backend} takes ${timeText(other)}.`));
  if (fastest.noisy) parts.push(html("p", { class: "care" }, `⚠ ${fastest.noise.map(briefly).join("; ")}.`));
  if (fastest.skips !== null) parts.push(html("p", { class: "quiet" }, `† It skips ${fastest.skips}.`));
  return html("div", { class: "answer" }, parts);
}

const winner = (row) =>
  html(
    "p",
    { class: "winner" },
    html("span", { class: `dot ${colourOf(row.backend)}` }),
    html("strong", null, row.name),
    " is the fastest: ",
    html("strong", null, timeText(row) + signs(row)),
  );

/** Returns the results by machine, the fastest first. */
function byMachine(rows) {
  const byTime = lastOfCases(alone(rows)).sort((a, b) => a.timing.value - b.timing.value);
  return [...grouped(byTime, (row) => row.machine)].sort(([a], [b]) => a.place - b.place);
}

const answers = (rows, view) => byMachine(rows).map(([machine, of]) => answer(machine, of, view));

/** Draws the table of what is fastest for each workload on each machine. */
function drawOverview(view) {
  const found = WORKLOADS.map((workload) => [
    workload,
    new Map(byMachine(chosenRows({ ...view, workload }).filter((row) => row.valid))),
  ]).filter(([, of]) => of.size > 0);
  byId("overview").hidden = found.length < 2;
  const machines = DATA.machines.filter((machine) => found.some(([, of]) => of.has(machine)));
  byId("overview-head").replaceChildren(
    ...["workload", ...machines.map((machine) => machine.label)].map((label) =>
      html("th", { scope: "col", role: "columnheader" }, label),
    ),
  );
  byId("overview-body").replaceChildren(
    ...found.map(([workload, of]) =>
      line(
        chooser(workload.label, { workload, ...NO_PICK }, workload === view.workload),
        machines.map((machine) => [machine.label, overviewCell(of.get(machine))]),
      ),
    ),
  );
}

/** Makes a button that chooses something. */
function chooser(label, changes, chosen) {
  const button = html("button", { type: "button", class: "link", "aria-pressed": String(chosen) }, label);
  button.addEventListener("click", () => change(changes));
  return button;
}

function overviewCell(rows) {
  if (!rows) return "";
  const [fastest] = rows;
  const rival = rivalOf(fastest, rows);
  const told = rival ? sureness(fastest, rival) : null;
  return [
    html("span", { class: `dot ${colourOf(fastest.backend)}` }),
    html("b", null, fastest.name),
    ` ${timeText(fastest)}${signs(fastest)}`,
    told ? html("small", null, `${told.ratio} as fast as ${rival.name} `, chip(told.word)) : null,
  ];
}

/** Tells which machine and row come nearest to a limit, among rows that skip no work. */
function nearestAnswer(rows) {
  const whole = alone(rows).filter((row) => row.skips === null && nearest(row) !== null);
  const best = [...whole].sort((a, b) => nearest(b).value - nearest(a).value)[0];
  if (!best) return html("p", null, "No row here that does all of the work tells its machine's limits.");
  const limit = nearest(best);
  const rivals = [...grouped(whole, (row) => row.machine)].filter(([machine]) => machine !== best.machine);
  const others = rivals.map(([machine, of]) => {
    const own = [...of].sort((a, b) => nearest(b).value - nearest(a).value)[0];
    return `${share(nearest(own).value)} on ${machine.label} (${own.name})`;
  });
  const most = limit.most ? `, which is ${limit.most}` : "";
  return html(
    "p",
    { class: "lead" },
    "Closest to its limit: ",
    html("strong", null, best.machine.label),
    `, where ${best.name} reaches `,
    html("strong", null, share(limit.value)),
    ` of ${limit.of}${most}`,
    others.length ? `; the most elsewhere is ${others.join(" and ")}.` : ".",
    rows.some((row) => row.skips !== null)
      ? " Rows that skip work are left out of this sentence, since they count work that they did not do."
      : "",
  );
}
