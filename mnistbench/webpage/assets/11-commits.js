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

/** Returns the rows of a backend that took turns with both, on the same device, with as many threads, by the same method
 * and with the same versions of its libraries: the control. Its own code may have changed all the same.
 */
function controlOf(before, after) {
  const fits = (row, one) =>
    one.valid &&
    one.run === row.run &&
    one.workload === row.workload &&
    one.dtype === row.dtype &&
    one.among === row.among &&
    one.interleaved &&
    row.interleaved &&
    sameShape(one, row);
  for (const backend of ["numpy", "torch", "jax"]) {
    if (backend === before.backend) continue;
    const [then, now] = [before, after].map((row) =>
      DATA.rows.find((one) => one.backend === backend && fits(row, one)),
    );
    const same = (name) => JSON.stringify(then[name]) === JSON.stringify(now[name]);
    if (then && now && ["versions", "device", "threads", "kernel"].every(same)) return [then, now];
  }
  return null;
}

/** Says in words whether two rows differ: a word and why. */
function verdict(found) {
  const judged = found.beside ?? found.alone;
  const ends = judged.low === null ? "" : ` (${interval(judged.low, judged.high, times)})`;
  const how = found.beside
    ? `beside ${found.control.name}, which took turns with it in both runs`
    : "by the times of the two runs alone";
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
    `${told}: the interval leaves out 1, and the control allows for what the machine did between the runs, if its own ` +
      "code did not change.",
  ];
}

const safeWord = (word) => /^[A-Za-z0-9][\w.-]*$/.test(word);

/** Returns the commands that decide it in pairs of processes, or null if none do. */
function decidingCommand(row, before) {
  const after = commitOf(row);
  if (before === after || [before, after].some((one) => one.dirty || !one.isHash)) return null;
  if (row.workload.options === null || row.ranks !== null || ![row.backend, row.dtype].every(safeWord)) return null;
  return (
    `git checkout ${after.commit} && mnistbench compare ${row.backend} --against ${before.commit} ` +
    `${row.workload.options} --dtype ${row.dtype} --threads ${Number(row.threads)}`
  );
}

const ratioText = (found) =>
  times(found.value) +
  (found.low === null ? " (no interval: one process)" : ` (${interval(found.low, found.high, times)})`);

/** Shows the comparison of two commits for the case and runs chosen, and that of every case. */
function drawCommits(view) {
  const cases = repeatedCases(view);
  byId("commits").hidden = cases.length === 0;
  if (cases.length === 0) return;
  const compared = cases.map(([name, rows]) => [name, rows, compareRows(...lastPair(rows))]);
  compared.sort(([, , one], [, , other]) => decisiveness(other) - decisiveness(one));
  const [name, rows] = compared.find(([one]) => one === view.pick) ?? compared[0];
  const ordered = inOrder(rows);
  let [before, after] = lastPair(rows);
  after = ordered.find((row) => runKey(row) === view.after) ?? after;
  before = ordered.find((row) => runKey(row) === view.before && row !== after) ?? (before === after ? null : before);
  before ??= ordered.findLast((row) => row !== after);
  fillSelect(
    byId("pick"),
    cases.map(([one]) => [one, one]),
    name,
  );
  for (const [id, row, taken] of [
    ["before", before, after],
    ["after", after, before],
  ]) {
    const choices = ordered.map((one) => [runKey(one), runName(one)]);
    fillSelect(byId(id), choices, runKey(row));
    for (const option of byId(id).options) option.disabled = option.value === runKey(taken);
  }
  byId("verdict").replaceChildren(html("p", { class: "paper" }, name), ...commitsTold(before, after));
  byId("all-verdicts").replaceChildren(...compared.map((one) => verdictRow(...one, name)));
  byId("verdict-count").textContent =
    `The last two commits of ${counted(cases.length, "case")}, the most decisive first. Of cases in which nothing ` +
    "changed, about 1 in 20 shows a difference by chance.";
}

const inOrder = (rows) =>
  [...rows].sort((a, b) => commitOf(a).at - commitOf(b).at || time(a.run.measured) - time(b.run.measured));

/** Returns the last row of a case, and the last one before it, of another commit if there is one. */
function lastPair(rows) {
  const ordered = inOrder(rows);
  const after = ordered.at(-1);
  return [ordered.findLast((row) => row.run.code !== after.run.code) ?? ordered.at(-2), after];
}

/** Returns how far the interval of a comparison is from 1, in its own half widths; -1 if there is no interval. */
function decisiveness(found) {
  const { value, low, high } = found.beside ?? found.alone;
  return low === null ? -1 : Math.abs(Math.log(value)) / Math.max(1e-12, Math.log(high / low) / 2);
}

function verdictRow(name, rows, found, chosen) {
  const [before, after] = lastPair(rows);
  const judged = found.beside ?? found.alone;
  return line(chooser(name, { ...NO_PICK, pick: name }, name === chosen), [
    ["commits", `${shortCommit(commitOf(before))} to ${shortCommit(commitOf(after))}`],
    ["difference", verdictChip(verdict(found)[0])],
    ["times as fast", ratioText(judged)],
  ]);
}

const verdictChip = (word) =>
  html("span", { class: `chip ${["faster", "slower"].includes(word) ? "good" : "care"}` }, word);

const commitOf = (row) => COMMIT.get(row.run.code);
const runKey = (row) => `${row.machine.id} ${row.run.folder}/${row.run.file} ${row.run.measured}`;
const runName = (row) => `${shortCommit(commitOf(row))}, measured ${row.run.measured.slice(0, 16).replace("T", " ")}`;

/** Tells what two rows say of their commits: the verdict, the times, the drift, the versions, and what decides it. */
function commitsTold(before, after) {
  const found = compareRows(before, after);
  const [word, why] = verdict(found);
  const [then, now] = [before, after].map((row) => shortCommit(commitOf(row)));
  const pair = then === now ? `two runs of ${now}` : `${now} against ${then}`;
  const command = decidingCommand(after, commitOf(before));
  const lines = [
    `Before: ${timeText(before)} (${timeRange(before)}), ${roundsText(before)}.`,
    `After: ${timeText(after)} (${timeRange(after)}), ${roundsText(after)}.`,
  ];
  if (found.beside) {
    const moved = { 1: "moved", "-1": "moved" }[side(found.drift)];
    lines.push(
      `The machine ${moved ?? "may have moved"}: ${found.control.name}, with the same versions in both runs, was ` +
        `${ratioText(found.drift)} as fast in the second. By the two times alone: ${ratioText(found.alone)}.`,
    );
  }
  const different = differentVersions(before, after);
  if (different) lines.push(`Versions differ: ${different}.`);
  if (command)
    lines.push(["What decides it, on the machine, in pairs of new processes: ", html("code", null, command)]);
  return [
    html("p", { class: "lead" }, verdictChip(word), ` ${pair}: ${why}`),
    html(
      "ul",
      null,
      lines.map((line) => html("li", null, line)),
    ),
  ];
}

function differentVersions(before, after) {
  const libraries = [...new Set([before, after].flatMap((row) => Object.keys(row.versions)))];
  const version = (row, library) => (Object.hasOwn(row.versions, library) ? row.versions[library] : "none");
  const differ = libraries.filter((library) => version(before, library) !== version(after, library));
  return differ
    .map((one) => `${one} ${version(before, one)} and ${version(after, one)}`)
    .join(", ");
}

/** Puts options [value, label] into a select element, and chooses one. */
function fillSelect(element, options, chosen) {
  element.replaceChildren(
    ...options.map(([value, label]) => html("option", { value, selected: value === chosen }, label)),
  );
  element.value = chosen;
}
