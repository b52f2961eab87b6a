// The controls: they show the view, and change it.

/** Changes the view, and draws it. */
function change(changes) {
  VIEW = { ...VIEW, ...changes };
  shownRows = PAGE;
  draw();
  setTimeout(() => history.replaceState(null, "", asFragment(VIEW))); // takes long, and nobody waits for it
}

/** Makes the check boxes of one choice; `chosen` turns the set of those that are checked into the choice. */
function checks(id, values, key, label, chosen = (found) => (found.size === values.length ? null : found)) {
  const boxes = values.map((value) => {
    const box = html("input", { type: "checkbox", name: key, value });
    box.addEventListener("change", () => {
      const checked = [...byId(id).querySelectorAll("input:checked")].map((one) => one.value);
      change({ [key]: chosen(new Set(checked)) });
    });
    return html("label", null, box, label(value));
  });
  byId(id).append(...boxes);
}

function makeControls() {
  makeSelects();
  makeChecks();
  const listen = (element, of) => element.addEventListener("change", (event) => change(of(event.target)));
  listen(byId("workload"), ({ value }) => ({ workload: WORKLOADS.find((one) => one.label === value), ...NO_PICK }));
  listen(byId("baseline"), ({ value }) => ({ baseline: BASELINES.find((one) => baselineKey(one) === value) }));
  listen(byId("sort"), ({ value }) => ({ sort: value.replace(/^-/, ""), descending: value.startsWith("-") }));
  listen(byId("rounds"), ({ checked }) => ({ rounds: checked }));
  for (const radio of document.querySelectorAll("input[name=commits-shown]"))
    listen(radio, ({ value }) => ({ commits: value === "chosen" ? lastCommit() : value }));
  for (const radio of document.querySelectorAll("input[name=measure]")) listen(radio, ({ value }) => ({ measure: value }));
  listen(byId("pick"), ({ value }) => ({ ...NO_PICK, pick: value }));
  listen(byId("before"), ({ value }) => ({ before: value }));
  listen(byId("after"), ({ value }) => ({ after: value }));
  listen(byId("axis"), ({ value }) => ({ axis: value }));
  listen(byId("scaling-machine"), ({ value }) => ({ scalingMachine: value }));
  makeButtons();
}

function makeSelects() {
  const { label } = VIEW.workload;
  fillSelect(
    byId("workload"),
    WORKLOADS.map((one) => [one.label, one.label]),
    label,
  );
  fillSelect(
    byId("baseline"),
    BASELINES.map((one) => [baselineKey(one), baselineText(one)]),
    baselineKey(VIEW.baseline),
  );
  const orders = Object.entries(SORTS).flatMap(([name, one]) => [
    [name, one.label],
    [`-${name}`, one.reversed],
  ]);
  fillSelect(byId("sort"), orders, "time");
}

function makeChecks() {
  const machines = new Map(DATA.machines.map((one) => [one.id, one.label]));
  const commits = COMMITS.map((one) => one.id).reverse();
  checks("dtypes", DTYPES, "dtypes", (dtype) => [dtypeIcon(dtype), dtype]);
  checks("machine-choice", [...machines.keys()], "machines", (id) => machines.get(id));
  checks("backends", DATA.backends, "backends", (name) => [html("span", { class: `dot ${colourOf(name)}` }), name]);
  checks(
    "commit-list",
    commits,
    "commits",
    (id) => commitLabel(COMMIT.get(id)),
    (found) => found,
  );
}

/** Returns the choice of the last commit that has rows of the workload. */
function lastCommit() {
  const measured = new Set((BY_WORKLOAD.get(VIEW.workload) ?? []).map((row) => row.run.code));
  return new Set(COMMITS.filter((one) => measured.has(one.id)).map((one) => one.id).slice(-1));
}

const commitLabel = (one) => `${shortCommit(one)} ${one.at ? day(new Date(one.at).toISOString()) : ""}`;
const dtypeIcon = (dtype) =>
  svg(
    "svg",
    { width: 16, height: 14, "aria-hidden": "true" },
    svg("path", { class: dtype === "float64" ? "shape hollow" : "shape", d: shapePath(shapeOf(dtype), 8, 7, 4.5) }),
  );

function makeButtons() {
  byId("link").addEventListener("click", () =>
    copy(location.href.replace(/#.*$/, "") + asFragment(VIEW), byId("copying"), `Copied.${linkNote()}`),
  );
  byId("swap").addEventListener("click", () =>
    change({ before: byId("after").value, after: byId("before").value, pick: byId("pick").value }),
  );
  byId("reset").addEventListener("click", () => change(firstView()));
  byId("print").addEventListener("click", () => window.print());
  byId("theme").addEventListener("click", toggleTheme);
  byId("more").addEventListener("click", () => {
    shownRows += PAGE;
    draw();
  });
  byId("csv").addEventListener("click", () =>
    download(fileName(`rows-${VIEW.workload.label}`, "csv"), [asCsv(sorted(chosenRows(VIEW), VIEW))], "text/csv"),
  );
  byId("sizes-csv").addEventListener("click", () =>
    download(fileName("rows-scaling", "csv"), [asCsv(sizedRows(VIEW))], "text/csv"),
  );
  byId("json").addEventListener("click", () =>
    download(
      fileName(`rows-${VIEW.workload.label}`, "json"),
      [asJson(sorted(chosenRows(VIEW), VIEW))],
      "application/json",
    ),
  );
  for (const button of document.querySelectorAll("button[data-save]")) {
    const section = byId(button.dataset.chart);
    button.addEventListener("click", () => {
      drawRest();
      return button.dataset.save === "svg" ? saveSvg(section) : savePng(section);
    });
  }
  byId("close").addEventListener("click", () => byId("provenance").close());
}

/** Tells what a link to this view needs to be of use elsewhere. */
function linkNote() {
  const file = location.protocol === "file:" ? " It is of a file on this computer: send the file too." : "";
  const moving = VIEW.commits === "latest" ? " Choose commits if it should not follow later rows." : "";
  return file + moving;
}

const darkNow = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function toggleTheme() {
  document.documentElement.dataset.theme = darkNow() ? "light" : "dark";
  showTheme();
}

function showTheme() {
  byId("theme").textContent = darkNow() ? "Light" : "Dark";
}

/** Shows the view on the controls. */
function showControls() {
  byId("workload").value = VIEW.workload.label;
  byId("baseline").value = baselineKey(VIEW.baseline);
  byId("sort").value = (VIEW.descending ? "-" : "") + VIEW.sort;
  byId("rounds").checked = VIEW.rounds;
  const chosen = typeof VIEW.commits !== "string";
  for (const [id, values] of [
    ["dtypes", VIEW.dtypes],
    ["machine-choice", VIEW.machines],
    ["backends", VIEW.backends],
    ["commit-list", chosen ? VIEW.commits : null],
  ]) {
    for (const box of byId(id).querySelectorAll("input")) box.checked = values === null || values.has(box.value);
  }
  byId("commit-list").hidden = !chosen;
  byId("view-text").textContent = viewText(VIEW);
  for (const radio of document.querySelectorAll("input[name=commits-shown]"))
    radio.checked = radio.value === (chosen ? "chosen" : VIEW.commits);
  for (const radio of document.querySelectorAll("input[name=measure]")) radio.checked = radio.value === VIEW.measure;
}
