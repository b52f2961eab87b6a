// Whether two commits differ.

/** Compares two rows of one case: alone, and beside a control in both runs, which cancels the machine's drift. */
function compareRows(before, after) {
  const alone = unpairedRatio(logMedians(before), logMedians(after));
  const control = controlOf(before, after);
  if (!control) return { alone, control: null };
  const [then, now] = control;
  const beside = unpairedRatio(logRatios(before, then), logRatios(after, now));
  const drift = unpairedRatio(logMedians(then), logMedians(now));
  return { alone, beside, drift, control: then };
}

/** Returns the rows of a backend that took turns with both, with the same versions of its libraries: the control. */
function controlOf(before, after) {
  const fits = (row, one) =>
    one.valid &&
    one.run === row.run &&
    one.workload === row.workload &&
    one.dtype === row.dtype &&
    one.interleaved &&
    row.interleaved &&
    sameShape(one, row);
  for (const backend of ["numpy", "torch", "jax"]) {
    if (backend === before.backend) continue;
    const [then, now] = [before, after].map((row) =>
      DATA.rows.find((one) => one.backend === backend && fits(row, one)),
    );
    if (then && now && JSON.stringify(then.versions) === JSON.stringify(now.versions)) return [then, now];
  }
  return null;
}

/** Says in words whether two rows differ: a word and why. */
function verdict(found) {
  const judged = found.beside ?? found.alone;
  const ends = judged.low === null ? "" : ` (${interval(judged.low, judged.high, times)})`;
  const how = found.beside
    ? `beside ${found.control.name}, which took turns with it in both runs`
    : "by the medians of the two runs alone";
  const told = `${times(judged.value)} as fast${ends} ${how}`;
  const which = { 1: "faster", "-1": "slower", 0: "no difference shown" }[side(judged)];
  if (which === undefined)
    return ["cannot tell", `${told}: one process in a run, so that nothing says how much processes differ.`];
  if (which === "no difference shown") return [which, `${told}: the interval holds 1, so the two may be equal.`];
  if (!found.beside)
    return [
      `seems ${which}`,
      `${told}: the interval leaves out 1, but no backend with the same versions ran in both, so the machine may have ` +
        "changed instead.",
    ];
  return [
    which,
    `${told}: the interval leaves out 1, and the control allows for what the machine did between the runs.`,
  ];
}

const safeWord = (word) => /^[A-Za-z0-9][\w.-]*$/.test(word);

/** Returns the command that decides it in pairs of processes, or null. */
function decidingCommand(row, commit) {
  if (!commit.isHash || row.workload.options === null || !safeWord(row.backend) || !safeWord(row.dtype)) return null;
  return `mnistbench compare ${row.backend} --against ${commit.commit} ${row.workload.options} --dtype ${row.dtype}`;
}

const ratioText = (found) =>
  times(found.value) +
  (found.low === null ? " (no interval: one process)" : ` (${interval(found.low, found.high, times)})`);

/** Shows the comparison of two commits for the case and runs chosen. */
function drawCommits(view) {
  const cases = repeatedCases(view);
  byId("commits").hidden = cases.length === 0;
  if (cases.length === 0) return;
  const [name, rows] = cases.find(([one]) => one === view.pick) ?? firstCase(cases);
  const ordered = [...rows].sort(
    (a, b) => commitOf(a).at - commitOf(b).at || time(a.run.measured) - time(b.run.measured),
  );
  const after = ordered.find((row) => runKey(row) === view.after) ?? ordered.at(-1);
  const others = ordered.filter((row) => row !== after);
  const before = others.find((row) => runKey(row) === view.before) ?? others.at(-1);
  const choices = ordered.map((row) => [runKey(row), runName(row)]);
  fillSelect(
    byId("pick"),
    cases.map(([one]) => [one, one]),
    name,
  );
  fillSelect(byId("before"), choices, runKey(before));
  fillSelect(byId("after"), choices, runKey(after));
  byId("verdict").replaceChildren(...commitsTold(before, after));
}

/** Returns the case to begin with: the fastest of those that can be told apart, which have several processes twice. */
function firstCase(cases) {
  const repeated = ([, rows]) => rows.filter((row) => row.processes.length > 1).length > 1;
  const fastest = ([, rows]) => rows.at(-1).timing.value;
  return [...cases].sort((a, b) => repeated(b) - repeated(a) || fastest(a) - fastest(b))[0];
}

const commitOf = (row) => COMMIT.get(row.run.code);
const runKey = (row) => `${row.machine.id} ${row.run.file}`;
const runName = (row) => `${shortCommit(commitOf(row))}, measured ${row.run.measured.slice(0, 16).replace("T", " ")}`;

/** Tells what two rows say of their commits: the verdict, the times, the drift, the versions, and what decides it. */
function commitsTold(before, after) {
  const found = compareRows(before, after);
  const [word, why] = verdict(found);
  const chip = html("span", { class: `chip ${["faster", "slower"].includes(word) ? "good" : "care"}` }, word);
  const pair = `${shortCommit(commitOf(after))} against ${shortCommit(commitOf(before))}`;
  const command = decidingCommand(after, commitOf(before));
  const lines = [
    `Before: ${timeText(before)} (${timeRange(before)}), ${roundsText(before)}.`,
    `After: ${timeText(after)} (${timeRange(after)}), ${roundsText(after)}.`,
  ];
  if (found.beside) {
    lines.push(
      `The machine moved: ${found.control.name}, with the same versions in both runs, was ${ratioText(found.drift)} as ` +
        `fast in the second. By the medians alone, without allowing for that: ${ratioText(found.alone)}.`,
    );
  }
  const different = differentVersions(before, after);
  if (different) lines.push(`Versions differ: ${different}.`);
  if (command)
    lines.push(["What decides it, on the machine, in pairs of new processes: ", html("code", null, command)]);
  return [
    html("p", { class: "lead" }, chip, ` ${pair}: ${why}`),
    html(
      "ul",
      null,
      lines.map((line) => html("li", null, line)),
    ),
  ];
}

function differentVersions(before, after) {
  const libraries = Object.keys({ ...before.versions, ...after.versions });
  const differ = libraries.filter((library) => before.versions[library] !== after.versions[library]);
  return differ
    .map((one) => `${one} ${before.versions[one] ?? "none"} and ${after.versions[one] ?? "none"}`)
    .join(", ");
}

/** Puts options [value, label] into a select element, and chooses one. */
function fillSelect(element, options, chosen) {
  element.replaceChildren(
    ...options.map(([value, label]) => html("option", { value, selected: value === chosen }, label)),
  );
  element.value = chosen;
}
