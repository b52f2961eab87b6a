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

/** Returns the row measured last of each case of those given: of each backend, dtype, device and number of threads. */
function lastOfCases(rows) {
  const last = new Map();
  for (const row of rows) {
    const key = JSON.stringify([row.machine.place, row.name, row.device, row.threads]);
    if (!last.has(key) || time(last.get(key).run.measured) <= time(row.run.measured)) last.set(key, row);
  }
  return [...last.values()];
}

/** Returns a row's rival: the fastest one of another backend. */
const rivalOf = (fastest, rows) => rows.find((row) => row.backend !== fastest.backend);

/** Tells how sure it is that one row is faster than another: a word, and a sentence. */
function sureness(row, other) {
  const found = speedup(row, { backend: other.backend, dtype: other.dtype });
  const same = found?.paired && found.over === other;
  const ratio = same ? found : { value: other.timing.value / row.timing.value, low: null, high: null };
  const by = `${times(ratio.value)}${ratio.low === null ? "" : ` (${interval(ratio.low, ratio.high, times)})`}`;
  const next = `${by} as fast as the next, ${other.name}`;
  if (!same)
    return ["not paired", `≈ ${next}: of medians of rows that did not run in the same rounds, so without an interval`];
  const held = row.processes.length > 1 ? `${row.processes.length} processes` : "one process, so another may differ";
  if (side(ratio) === 1)
    return ["sure", `${next}: the whole 95% interval of the ratio within the same rounds is above 1, in ${held}`];
  if (side(ratio) === null) return ["too few rounds", `${next}: in the same rounds, but too few for an interval`];
  return ["not told apart", `${next}: the 95% interval of the ratio holds 1, so either may be the faster one`];
}

/** Makes the answer for one machine: its fastest row, beside the baseline and beside the next backend. */
function answer(machine, rows, view) {
  const [fastest] = rows;
  const parts = [
    html("p", { class: "where" }, machine.label),
    html(
      "p",
      { class: "winner" },
      html("span", { class: `dot ${colourOf(fastest.backend)}` }),
      html("strong", null, fastest.backend),
      ` ${fastest.dtype} is the fastest: `,
      html("strong", null, timeText(fastest)),
    ),
  ];
  const found = speedup(fastest, view.baseline);
  if (found && found.over !== fastest) {
    const why = whyUncertain(found);
    const how = found.paired ? "within the same rounds" : why;
    parts.push(html("p", null, html("strong", null, speedupText(found)), ` as fast as ${found.over.name}, ${how}.`));
  }
  const rival = rivalOf(fastest, rows);
  if (rival) {
    const [word, sentence] = sureness(fastest, rival);
    parts.push(
      html("p", null, html("span", { class: `chip ${word === "sure" ? "good" : "care"}` }, word), ` ${sentence}.`),
    );
  } else parts.push(html("p", null, "No other backend is shown to compare with."));
  if (fastest.timing.noisy)
    parts.push(
      html(
        "p",
        { class: "care" },
        `⚠ noisy: its rounds scatter by ${percent(fastest.timing.spread, 0)} of their median.`,
      ),
    );
  return html("div", { class: "answer" }, parts);
}

function answers(rows, view) {
  const byTime = lastOfCases(rows).sort((a, b) => a.timing.value - b.timing.value);
  const found = [...grouped(byTime, (row) => row.machine)];
  found.sort(([a], [b]) => a.place - b.place);
  return found.map(([machine, of]) => answer(machine, of, view));
}

/** Tells which machine and row come nearest to a limit, among rows that skip no work. */
function nearestAnswer(rows) {
  const counted = rows.filter((row) => row.skips === null && nearest(row) !== null);
  const best = [...counted].sort((a, b) => nearest(b).value - nearest(a).value)[0];
  if (!best) return html("p", null, "No row here that does all of the work tells its machine's limits.");
  const limit = nearest(best);
  const rivals = [...grouped(counted, (row) => row.machine)].filter(([machine]) => machine !== best.machine);
  const others = rivals.map(([machine, of]) => {
    const own = [...of].sort((a, b) => nearest(b).value - nearest(a).value)[0];
    return `${share(nearest(own).value)} on ${machine.label} (${own.name})`;
  });
  return html(
    "p",
    { class: "lead" },
    "Closest to its limit: ",
    html("strong", null, best.machine.label),
    `, where ${best.name} reaches `,
    html("strong", null, share(limit.value)),
    ` of ${limit.of}`,
    others.length ? `; the most elsewhere is ${others.join(" and ")}.` : ".",
    rows.some((row) => row.skips !== null)
      ? " Rows that skip work are left out of this sentence, since they count work that they did not do."
      : "",
  );
}
