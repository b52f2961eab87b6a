// History by commit, and whether two commits differ.

/** Rows of all commits that the other choices leave. */
const historyRows = (view) => chosenRows({ ...view, commits: "all" }).filter((row) => row.valid);

const caseName = (row) => [row.name, row.machine.label, row.device === "CPU" ? counted(row.threads, "thread") : row.device].join(", ");

/** Returns the cases of which several runs are stored. */
function repeatedCases(view) {
  return [...grouped(historyRows(view), caseName)].filter(([, rows]) => new Set(rows.map((row) => row.run)).size > 1);
}

const commitLink = (one) => (DATA.commitsAt !== null && one.isHash ? DATA.commitsAt + one.commit : null);

/** Writes a commit, as a link if it is known where commits are shown. */
function commitText(one) {
  const href = commitLink(one);
  return href ? html("a", { href, target: "_blank", rel: "noopener noreferrer" }, shortCommit(one)) : html("code", null, shortCommit(one));
}

let _drawnHistory = "";

/** Draws the history, unless it is drawn already: it depends on few of the choices, and has the most marks. */
function drawHistory(view) {
  const parts = [view.dtypes, view.machines, view.backends].map((chosen) => chosen && [...chosen]);
  const wanted = JSON.stringify([view.workload.place, chartWidth, ...parts]);
  if (wanted === _drawnHistory) return;
  _drawnHistory = wanted;
  const rows = historyRows(view);
  const panels = [...grouped(rows, (row) => row.machine)].sort(([a], [b]) => a.place - b.place);
  const title = `History by commit, ${view.workload.label}`;
  figure(
    "history",
    title,
    rows.length ? (width) => panels.map(([machine, of]) => lineChart(historyPanel(title, machine, of), width)) : null,
    "Each mark is the median of one run at a commit, the bar its interval; runs at one commit stand side by side. Lines join rows of one backend and dtype on one machine, whatever commits are chosen above.",
    "Runs are hours or days apart, and the machine, its neighbours and the libraries change too. A step in all lines at once is rarely the code: compare two commits below, where a control tells how much the machine moved.",
  );
}

function historyPanel(title, machine, rows) {
  const commits = COMMITS.filter((one) => rows.some((row) => row.run.code === one.id));
  const order = new Map(commits.map((one, place) => [one.id, place]));
  const threads = new Set(rows.map((row) => row.threads)).size > 1;
  const name = (row) => row.name + (row.device === "CPU" ? "" : ` ${row.device}`) + (threads ? ` ${counted(row.threads, "thread")}` : "");
  return {
    title: `${title}, ${machine.label}`,
    heading: machine.label,
    series: [...grouped(rows, name)].map(([label, of]) => historyLine(label, of, order)),
    ticks: commits.map((one, at) => ({ at, label: shortCommit(one), href: commitLink(one) })),
    place: (start, end) => (at) => start + ((at + 0.5) / commits.length) * (end - start),
    unit: "commit, in order of date",
  };
}

function historyLine(label, rows, order) {
  const [first] = rows;
  const at = [...grouped([...rows].sort((a, b) => time(a.run.measured) - time(b.run.measured)), (row) => row.run.code)];
  const points = at.flatMap(([code, of]) =>
    of.map((row, i) => ({
      ...style(row),
      at: order.get(code) + 0.6 * ((i + 0.5) / of.length - 0.5),
      value: row.timing.value,
      low: row.timing.low,
      high: row.timing.high,
      lines: () => timeLines(row),
    })),
  );
  points.sort((a, b) => a.at - b.at);
  return { label, points, colour: colourOf(first.backend), dash: first.dtype === "float64" ? "5 3" : null };
}

/** Compares two rows of one case: alone, and beside a control that both runs hold, which cancels the machine's drift. */
function compareRows(before, after) {
  const alone = { ...unpairedRatio(logMedians(before), logMedians(after)), what: "medians of the two runs" };
  const control = controlOf(before, after);
  if (!control) return { alone, control: null };
  const [then, now] = control;
  const beside = { ...unpairedRatio(logRatios(before, then), logRatios(after, now)), over: then };
  const drift = unpairedRatio(logMedians(then), logMedians(now));
  return { alone, beside, drift, control: then };
}

/** Returns the rows of a backend that took turns with both, with the same versions of its libraries: the control. */
function controlOf(before, after) {
  const fits = (row, one) => one.valid && one.run === row.run && one.workload === row.workload && one.dtype === row.dtype && one.interleaved && row.interleaved && sameShape(one, row);
  for (const backend of ["numpy", "torch", "jax"]) {
    if (backend === before.backend) continue;
    const [then, now] = [before, after].map((row) => DATA.rows.find((one) => one.backend === backend && fits(row, one)));
    if (then && now && JSON.stringify(then.versions) === JSON.stringify(now.versions)) return [then, now];
  }
  return null;
}

/** Says in words whether two rows differ: a word and why. */
function verdict(found) {
  const judged = found.beside ?? found.alone;
  const told = `${times(judged.value)} as fast${judged.low === null ? "" : ` (${interval(judged.low, judged.high, times)})`}`;
  const how = found.beside ? `beside ${found.control.name}, which took turns with it in both runs` : "by the medians of the two runs alone";
  const which = { 1: "faster", "-1": "slower", 0: "no difference shown" }[side(judged)];
  if (which === undefined) return ["cannot tell", `${told} ${how}: one process in a run, so that nothing says how much processes differ.`];
  if (which === "no difference shown") return [which, `${told} ${how}: the interval holds 1, so the two may be equal.`];
  if (!found.beside) return [`seems ${which}`, `${told} ${how}: the interval leaves out 1, but no backend with the same versions ran in both, so the machine may have changed instead.`];
  return [which, `${told} ${how}: the interval leaves out 1, and the control allows for what the machine did between the runs.`];
}

const safeWord = (word) => /^[A-Za-z0-9][\w.-]*$/.test(word);

/** Returns the command that decides it in pairs of processes, or null. */
function decidingCommand(row, commit) {
  if (!commit.isHash || row.workload.options === null || !safeWord(row.backend) || !safeWord(row.dtype)) return null;
  return `mnistbench compare ${row.backend} --against ${commit.commit} ${row.workload.options} --dtype ${row.dtype}`;
}

/** Fills the comparison of two commits for the case and runs chosen. */
function drawCommits(view) {
  const cases = repeatedCases(view);
  byId("commits").hidden = cases.length === 0;
  if (cases.length === 0) return;
  const repeated = ([, of]) => of.filter((row) => row.processes.length > 1).length > 1;
  const best = [...cases].sort((a, b) => repeated(b) - repeated(a) || a[1].at(-1).timing.value - b[1].at(-1).timing.value)[0];
  const [name, rows] = cases.find(([one]) => one === view.pick) ?? best;
  const ordered = [...rows].sort((a, b) => COMMIT.get(a.run.code).at - COMMIT.get(b.run.code).at || time(a.run.measured) - time(b.run.measured));
  const runName = (row) => `${shortCommit(COMMIT.get(row.run.code))}, measured ${row.run.measured.slice(0, 16).replace("T", " ")}`;
  const keyOf = (row) => `${row.run.machine.id} ${row.run.file}`;
  const after = ordered.find((row) => keyOf(row) === view.after) ?? ordered.at(-1);
  const before = ordered.find((row) => keyOf(row) === view.before && row !== after) ?? ordered.filter((row) => row !== after).at(-1);
  fillSelect(byId("pick"), cases.map(([one]) => [one, one]), name);
  for (const [id, row] of [["before", before], ["after", after]]) fillSelect(byId(id), ordered.map((one) => [keyOf(one), runName(one)]), keyOf(row));
  const found = compareRows(before, after);
  const [word, why] = verdict(found);
  const versions = Object.keys({ ...before.versions, ...after.versions }).filter((library) => before.versions[library] !== after.versions[library]);
  const command = decidingCommand(after, COMMIT.get(before.run.code));
  byId("verdict").replaceChildren(
    html("p", { class: "lead" }, html("span", { class: `chip ${["faster", "slower"].includes(word) ? "good" : "care"}` }, word), ` ${shortCommit(COMMIT.get(after.run.code))} against ${shortCommit(COMMIT.get(before.run.code))}: ${why}`),
    html(
      "ul",
      null,
      html("li", null, `Before: ${timeText(before)} (${timeRange(before)}), ${roundsText(before)}. After: ${timeText(after)} (${timeRange(after)}), ${roundsText(after)}.`),
      found.beside ? html("li", null, `The machine moved: ${found.control.name}, with the same versions in both runs, was ${ratioText(found.drift)} as fast in the second. By the medians alone, without allowing for that: ${ratioText(found.alone)}.`) : null,
      versions.length ? html("li", null, `Versions differ: ${versions.map((library) => `${library} ${before.versions[library] ?? "none"} and ${after.versions[library] ?? "none"}`).join(", ")}.`) : null,
      command ? html("li", null, "What decides it, on the machine, in pairs of new processes: ", html("code", null, command)) : null,
    ),
  );
}

const ratioText = (found) => times(found.value) + (found.low === null ? " (no interval: one process)" : ` (${interval(found.low, found.high, times)})`);

/** Puts options [value, label] into a select element, and chooses one. */
function fillSelect(element, options, chosen) {
  element.replaceChildren(...options.map(([value, label]) => html("option", { value, selected: value === chosen }, label)));
  element.value = chosen;
}
