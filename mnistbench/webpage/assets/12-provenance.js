// Where a number is from: the machine, the commit, the versions, every round, and the commands that repeat it.

/** Makes a button that copies a text, and the place that says so. */
function copyButton(label, of) {
  const button = html("button", { type: "button", class: "small" }, label);
  const place = html("span", null, html("span", { role: "status" }), html("input", COPIED));
  button.addEventListener("click", () => copy(of(), place, "Copied."));
  return [button, " ", place];
}

const COPIED = { class: "copied", "aria-label": "Text to copy", readonly: true, hidden: true };

/** Copies a text and says so in a place beside the button, or shows it selected there where a browser forbids it. */
async function copy(words, place, done) {
  const [said, box] = ["[role=status]", "input"].map((selector) => place.querySelector(selector));
  try {
    await navigator.clipboard.writeText(words);
    box.hidden = true;
    said.textContent = done;
  } catch {
    box.hidden = false;
    box.value = words;
    box.select();
    said.textContent = "This browser does not let the page copy: the text is selected, press Ctrl+C.";
  }
}

const entry = (name, ...value) => [html("dt", null, name), html("dd", null, value)];

/** Opens the provenance of a row. */
function showProvenance(row) {
  hideTip();
  byId("provenance-title").textContent = `${row.name}, ${row.workload.label}`;
  byId("provenance-body").replaceChildren(
    html("dl", null, numbersOf(row)),
    html("h3", null, "Repeat it"),
    repeatOf(row),
    html("h3", null, "Where it is from"),
    html("dl", null, originOf(row), machineOf(row)),
    ...roundsOf(row),
  );
  byId("provenance").showModal();
}

/** Tells the commands that repeat a row's run, from getting the code on. */
function repeatOf(row) {
  if (!row.run.command.length)
    return html("p", null, `No command does: ${row.run.dirty ? "the code had uncommitted changes" : REPEATS_NOTHING}.`);
  const clone = DATA.commitsAt === null ? [] : [`git clone ${DATA.commitsAt.replace(/\/commit\/$/, "")} mnistbench && cd mnistbench`];
  const lines = [...clone, row.run.command.slice(0, -1), "pip install -e '.[bench]'", row.run.command.at(-1)].flat();
  const text = lines.join("\n");
  return html("div", null, html("pre", { tabindex: 0 }, text), copyButton("Copy the commands", () => text));
}

const REPEATS_NOTHING = "no options of the benchmarks give what was measured";

function originOf(row) {
  const versions = Object.entries(row.versions).map(([name, version]) => `${name} ${version}`);
  if (row.run.python) versions.unshift(`Python ${row.run.python}`);
  if (row.limits?.blas) versions.push(`BLAS of NumPy: ${row.limits.blas}`);
  const href = commitLink(COMMIT.get(row.run.code));
  const code = html("code", null, row.run.commit || "unknown");
  return [
    entry("commit", href ? outside(href, code) : code, row.run.dirty ? " with uncommitted changes" : ""),
    entry("measured", row.run.measured, row.run.merged === null ? "" : `, by somebody else; merged ${row.run.merged}`),
    entry("file", html("code", null, [row.run.folder, row.run.file].filter(Boolean).join("/"))),
    entry("versions", versions.join(", ") || "not told"),
  ];
}

function numbersOf(row) {
  const found = [];
  if (row.problem !== null) found.push(entry("no result", row.problem));
  if (row.timing) {
    const { level } = row.timing;
    found.push(entry("time", `${timeText(row)}, ${centreText(row)}, ${roundsText(row)}`));
    found.push(entry("interval", `${timeRange(row)}, level ${levelText(level)}`));
    found.push(entry("per iteration", seconds(row.timing.value / row.iterations)));
  }
  for (const note of row.noise) found.push(entry("warning", `⚠ ${note}`));
  for (const note of row.notes) found.push(entry("note", note));
  const ratio = speedup(row, VIEW.baseline);
  if (ratio) {
    const how = whyUncertain(ratio) || `within the same rounds of ${heldIn(row)}`;
    const commit = shortCommit(COMMIT.get(ratio.over.run.code));
    found.push(entry("speedup", `${speedupText(ratio)} over ${ratio.over.name}, ${timeText(ratio.over)} at ${commit}: ${how}`));
  }
  if (row.kernel) found.push(entry("method", row.kernel));
  if (row.skips) found.push(entry("skips", `† ${row.skips}`));
  for (const limit of limitsOf(row)) found.push(entry("limit", limit));
  if (row.limits?.measured) found.push(entry("limits of", day(row.limits.measured)));
  if (row.agreement) found.push(entry("agreement", row.agreement));
  if (row.accuracy !== null) found.push(entry("training accuracy", percent(row.accuracy)));
  const costs = Object.entries(row.costs).filter(([, value]) => value !== null);
  if (costs.length)
    found.push(
      entry(
        "costs",
        costs.map(([name, value]) => `${name.replace("_", " ")} ${value < 1e-3 ? "≈ 0 s" : seconds(value)}`).join(", "),
      ),
    );
  return found;
}

const machineOf = (row) => [
  entry("machine", row.machine.label),
  ...row.machine.facts
    .filter(([, value]) => !row.machine.label.startsWith(value))
    .map(([name, value]) => entry(name, value)),
  row.run.system ? entry("system", row.run.system) : [],
  entry("device", deviceText(row)),
  row.ranks ? entry("ranks", row.ranks.told) : [],
  entry("workload", row.size === null ? row.workload.task : `${row.workload.task}: ${sizesText(row.size).join(", ")}`),
];

function roundsOf(row) {
  if (!row.seconds.length) return [];
  const lines = processesOf(row).map((rounds, i) =>
    html(
      "li",
      null,
      row.processes.length > 1 ? `process ${i + 1}: ` : "",
      rounds.map((value) => seconds(value, 4)).join(", "),
    ),
  );
  return [html("h3", null, "Every round"), html("ul", { class: "rounds" }, lines)];
}
