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
  fillSelect(
    byId("workload"),
    WORKLOADS.map((one) => [one.label, one.label]),
    VIEW.workload?.label,
  );
  fillSelect(
    byId("baseline"),
    BASELINES.map((one) => [
      baselineName(one),
      one.dtype === null ? `${one.backend}, in each row's dtype` : baselineName(one),
    ]),
    baselineName(VIEW.baseline),
  );
  fillSelect(
    byId("sort"),
    Object.entries(SORTS).flatMap(([name, { label }]) => [
      [name, label],
      [`-${name}`, `${label}, reversed`],
    ]),
    "time",
  );
  checks("dtypes", DTYPES, "dtypes", (dtype) => [dtypeIcon(dtype), dtype]);
  checks(
    "machine-choice",
    DATA.machines.map((one) => one.id),
    "machines",
    (id) => DATA.machines.find((one) => one.id === id).label,
  );
  checks("backends", DATA.backends, "backends", (name) => [html("span", { class: `dot ${colourOf(name)}` }), name]);
  const commits = COMMITS.map((one) => one.id).reverse();
  checks(
    "commit-list",
    commits,
    "commits",
    (id) => commitLabel(COMMIT.get(id)),
    (found) => found,
  );
  byId("workload").addEventListener("change", (event) =>
    change({
      workload: WORKLOADS.find((one) => one.label === event.target.value),
      pick: null,
      before: null,
      after: null,
    }),
  );
  byId("baseline").addEventListener("change", (event) =>
    change({ baseline: BASELINES.find((one) => baselineName(one) === event.target.value) }),
  );
  byId("sort").addEventListener("change", ({ target: { value } }) =>
    change({ sort: value.replace(/^-/, ""), descending: value.startsWith("-") }),
  );
  byId("rounds").addEventListener("change", (event) => change({ rounds: event.target.checked }));
  for (const radio of document.querySelectorAll("input[name=commits-shown]"))
    radio.addEventListener("change", () => change({ commits: radio.value === "chosen" ? lastCommit() : radio.value }));
  for (const radio of document.querySelectorAll("input[name=measure]"))
    radio.addEventListener("change", () => change({ measure: radio.value }));
  byId("pick").addEventListener("change", (event) => change({ pick: event.target.value, before: null, after: null }));
  for (const id of ["before", "after"])
    byId(id).addEventListener("change", (event) => change({ [id]: event.target.value }));
  for (const [id, key] of [
    ["axis", "axis"],
    ["scaling-machine", "scalingMachine"],
  ])
    byId(id).addEventListener("change", (event) => change({ [key]: event.target.value }));
  makeButtons();
}

/** Returns the choice of the last commit that has rows of the workload. */
function lastCommit() {
  const measured = new Set(BY_WORKLOAD.get(VIEW.workload).map((row) => row.run.code));
  return new Set([COMMITS.findLast((one) => measured.has(one.id)).id]);
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
    copy(location.href.replace(/#.*$/, "") + asFragment(VIEW), "Copied a link to this view"),
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
  byId("baseline").value = baselineName(VIEW.baseline);
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
  for (const radio of document.querySelectorAll("input[name=commits-shown]"))
    radio.checked = radio.value === (chosen ? "chosen" : VIEW.commits);
  for (const radio of document.querySelectorAll("input[name=measure]")) radio.checked = radio.value === VIEW.measure;
}
