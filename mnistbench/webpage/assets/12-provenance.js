// Where a number is from: the machine, the commit, the versions, every round, and the commands that repeat it.

/** Makes a button that copies a text and says so. */
function copyButton(label, of) {
  const button = html("button", { type: "button", class: "small" }, label);
  button.addEventListener("click", () => copy(of(), `Copied: ${label.toLowerCase()}`));
  return button;
}

/** Copies a text, or shows it selected where a browser does not let it. */
async function copy(words, done) {
  const box = byId("copied");
  try {
    await navigator.clipboard.writeText(words);
    box.hidden = true;
    say(done);
  } catch {
    box.hidden = false;
    box.value = words;
    box.select();
    say("This browser does not let the page copy: the text is selected in the box, press Ctrl+C.");
  }
}

const entry = (name, ...value) => [html("dt", null, name), html("dd", null, value)];

/** Opens the provenance of a row. */
function showProvenance(row) {
  hideTip();
  const commit = COMMIT.get(row.run.code);
  byId("provenance-title").textContent = `${row.name}, ${row.workload.label}`;
  byId("provenance-body").replaceChildren(
    html(
      "dl",
      null,
      numbersOf(row),
      machineOf(row),
      entry(
        "commit",
        commitText(commit),
        ` ${row.run.isHash ? row.run.commit : ""}${row.run.dirty ? " with uncommitted changes" : ""}`,
      ),
      entry("measured", row.run.measured),
      entry("file", html("code", null, row.run.file)),
      entry(
        "versions",
        Object.entries(row.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(", ") || "not told",
      ),
    ),
    html("h3", null, "Repeat it"),
    row.run.command.length
      ? html(
          "div",
          null,
          html("pre", { tabindex: 0 }, row.run.command.join("\n")),
          copyButton("Copy the commands", () => row.run.command.join("\n")),
        )
      : html("p", null, "Its workload is no preset of this version, so no command is known."),
    roundsOf(row),
  );
  byId("provenance").showModal();
}

function numbersOf(row) {
  const found = [];
  if (row.problem !== null) found.push(entry("no result", row.problem));
  if (row.timing)
    found.push(
      entry(
        "time",
        `${timeText(row)} (${timeRange(row)}, ${levelText(row.timing.level)} interval of the median), ${roundsText(row)}`,
      ),
    );
  if (row.timing) found.push(entry("per iteration", seconds(row.timing.value / row.iterations)));
  for (const note of row.notes) found.push(entry("warning", note));
  const ratio = speedup(row, VIEW.baseline);
  if (ratio)
    found.push(
      entry(
        "speedup",
        `${speedupText(ratio)} over ${ratio.over.name}. ${whyUncertain(ratio) || "Within the same rounds."}`,
      ),
    );
  if (row.kernel) found.push(entry("method", row.kernel));
  if (row.skips) found.push(entry("skips", row.skips));
  if (row.agreement) found.push(entry("agreement", row.agreement));
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
  ...row.machine.facts.map(([name, value]) => entry(name, value)),
  entry("device", `${row.device}, ${counted(row.threads ?? 0, "thread")}`),
  entry("workload", row.workload.task),
];

function roundsOf(row) {
  if (!row.seconds.length) return null;
  const lines = processesOf(row).map((rounds, i) =>
    html(
      "li",
      null,
      row.processes.length > 1 ? `process ${i + 1}: ` : "",
      rounds.map((value) => seconds(value, 4)).join(", "),
    ),
  );
  return html("div", null, html("h3", null, "Every round"), html("ul", { class: "rounds" }, lines));
}
