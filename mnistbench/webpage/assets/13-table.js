// The table of the rows that are shown, and that of the rows that are no result.

const PAGE = 100; // rows of the table at a time; the rest follows on demand
let shownRows = PAGE;

const COLUMNS = [
  {
    label: "backend",
    sort: "backend",
    cell: (row) => [html("span", { class: `dot ${colourOf(row.backend)}` }), row.backend],
    head: true,
  },
  { label: "dtype", sort: "dtype", cell: (row) => row.dtype },
  { label: "device", cell: (row) => deviceText(row) },
  {
    label: "time",
    sort: "time",
    number: true,
    cell: (row) => [
      html("b", null, timeText(row) + signs(row)),
      html("small", null, `${timeRange(row)} (${levelText(row.timing.level)})`),
    ],
  },
  { label: "warnings", cell: (row) => warnings(row) },
  { label: "speedup", sort: "speedup", number: true, cell: (row, view) => speedupCell(speedup(row, view.baseline)) },
  { label: "of the limit", sort: "limit", number: true, cell: (row) => limitCell(row) },
  { label: "training accuracy", number: true, cell: (row) => (row.accuracy === null ? "" : percent(row.accuracy)) },
  {
    label: "commit",
    sort: "commit",
    cell: (row) => [commitText(COMMIT.get(row.run.code)), html("small", null, day(row.run.measured))],
  },
  { label: "details", cell: (row) => provenanceButton(row) },
];

/** Writes the warnings of a row in brief; they are whole in its details. */
const warnings = (row) => [
  ...row.noise.map((note) => html("small", { class: "care", title: note }, `⚠ ${briefly(note)}`)),
  ...row.notes.map((note) => html("small", { title: note }, briefly(note))),
];

function speedupCell(found) {
  if (found === null) return "";
  const why = whyUncertain(found);
  const range =
    found.low !== null && found.low < found.high ? html("small", null, interval(found.low, found.high, times)) : null;
  return [
    html("b", null, `${found.paired ? "" : "≈ "}${times(found.value)}`),
    range,
    why ? html("small", { class: "care" }, why) : null,
  ];
}

function limitCell(row) {
  const found = nearest(row);
  if (found === null) return "";
  return [`${share(found.value)}${row.skips === null ? "" : " †"}`, html("small", null, found.short)];
}

function provenanceButton(row) {
  const button = html(
    "button",
    {
      type: "button",
      class: "small",
      "aria-label": `Details of ${row.name}, ${row.machine.label}, ${row.run.measured}`,
    },
    "Details",
  );
  button.addEventListener("click", () => showProvenance(row));
  return button;
}

function headCell(column, view) {
  if (!column.sort) return html("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null }, column.label);
  const active = view.sort === column.sort;
  const falls = view.descending !== (SORTS[column.sort].falling ?? false);
  const button = html(
    "button",
    { type: "button", "data-focus": `sort-${column.sort}` },
    column.label,
    html("span", { "aria-hidden": "true" }, active ? (falls ? " ↓" : " ↑") : ""),
  );
  button.addEventListener("click", () => change({ sort: column.sort, descending: active && !view.descending }));
  return html(
    "th",
    { scope: "col", role: "columnheader", class: column.number ? "number" : null, "aria-sort": active ? (falls ? "descending" : "ascending") : "none" },
    button,
  );
}

const bodyRow = (row, view) =>
  html(
    "tr",
    { "data-row": row.place, role: "row" },
    COLUMNS.map((column) =>
      html(
        column.head ? "th" : "td",
        {
          role: column.head ? "rowheader" : "cell",
          scope: column.head ? "row" : null,
          class: column.number ? "number" : null,
          "data-label": column.label,
        },
        column.cell(row, view),
      ),
    ),
  );

/** Makes a line of a table: a heading, and cells with their labels, which a narrow screen shows. */
const line = (heading, cells) =>
  html(
    "tr",
    { role: "row" },
    html("th", { scope: "row", role: "rowheader" }, heading),
    cells.map(([label, value]) => html("td", { role: "cell", "data-label": label }, value)),
  );

/** Makes the heading of a machine's rows. */
const machineRow = (machine) =>
  html(
    "tr",
    { class: "group", role: "row" },
    html("th", { scope: "rowgroup", role: "rowheader", colspan: COLUMNS.length }, machine.label),
  );

function drawTable(rows, view) {
  const shown = sorted(rows, view).slice(0, shownRows);
  const groups = [...grouped(shown, (row) => row.machine)];
  byId("head").replaceChildren(
    html(
      "tr",
      { role: "row" },
      COLUMNS.map((column) => headCell(column, view)),
    ),
  );
  byId("body").replaceChildren(
    ...groups.flatMap(([machine, of]) => [machineRow(machine), ...of.map((row) => bodyRow(row, view))]),
  );
  const left = rows.length - shown.length;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  byId("caption").textContent =
    `${counted(rows.length, "result")} of ${view.workload.label}: ${view.workload.task}. Speedup over ` +
    `${baselineText(view.baseline)}. Behind a time's interval is its level; those of speedups have ${levelText(DATA.level)}.`;
  byId("rows").hidden = rows.length === 0;
}

/** Lists the rows that are no result: of all workloads and commits. */
function drawProblems(view) {
  const rows = DATA.rows.filter(
    (row) =>
      !row.valid &&
      holds(view.dtypes, row.dtype) &&
      holds(view.machines, row.machine.id) &&
      holds(view.backends, row.backend),
  );
  byId("problems").hidden = rows.length === 0;
  const cells = (row) => [
    ["workload", row.workload.label],
    ["size", row.size === null ? "" : sizesText(row.size).slice(0, 2).join(", ")],
    ["device", deviceText(row)],
    ["machine", row.machine.label],
    ["reason", row.problem],
    ["measured", day(row.run.measured)],
    ["details", provenanceButton(row)],
  ];
  byId("problem-body").replaceChildren(...rows.map((row) => line(row.name, cells(row))));
  const are = rows.length === 1 ? "is" : "are";
  byId("problem-count").textContent =
    `${counted(rows.length, "row")} of all workloads and commits ${are} no result, and ${are} drawn nowhere.`;
}
