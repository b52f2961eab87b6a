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
  { label: "machine", sort: "machine", cell: (row) => row.machine.label },
  {
    label: "time",
    sort: "time",
    number: true,
    cell: (row) => [html("b", null, timeText(row)), html("small", null, timeRange(row))],
  },
  { label: "warnings", cell: (row) => warnings(row) },
  { label: "speedup", sort: "speedup", number: true, cell: (row, view) => speedupCell(speedup(row, view.baseline)) },
  { label: "of the limit", sort: "limit", number: true, cell: (row) => limitCell(row) },
  { label: "accuracy", number: true, cell: (row) => (row.accuracy === null ? "" : percent(row.accuracy)) },
  {
    label: "commit",
    sort: "commit",
    cell: (row) => [commitText(COMMIT.get(row.run.code)), html("small", null, day(row.run.measured))],
  },
  { label: "provenance", cell: (row) => provenanceButton(row) },
];

/** Writes the warnings of a row beside its time. */
const warnings = (row) => row.notes.map((note) => html("small", { class: "care" }, `⚠ ${note}`));

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
      "aria-label": `Provenance of ${row.name}, ${row.machine.label}, ${row.run.measured}`,
    },
    "Details",
  );
  button.addEventListener("click", () => showProvenance(row));
  return button;
}

function headCell(column, view) {
  if (!column.sort) return html("th", { scope: "col", class: column.number ? "number" : null }, column.label);
  const active = view.sort === column.sort;
  const order = view.descending ? "descending" : "ascending";
  const button = html(
    "button",
    { type: "button", "data-focus": `sort-${column.sort}` },
    column.label,
    html("span", { "aria-hidden": "true" }, active ? (view.descending ? " ↓" : " ↑") : ""),
  );
  button.addEventListener("click", () => change({ sort: column.sort, descending: active && !view.descending }));
  return html(
    "th",
    { scope: "col", class: column.number ? "number" : null, "aria-sort": active ? order : "none" },
    button,
  );
}

const bodyRow = (row, view) =>
  html(
    "tr",
    { "data-row": row.place },
    COLUMNS.map((column) =>
      html(
        column.head ? "th" : "td",
        { scope: column.head ? "row" : null, class: column.number ? "number" : null, "data-label": column.label },
        column.cell(row, view),
      ),
    ),
  );

function drawTable(rows, view) {
  const ordered = sorted(rows, view);
  byId("head").replaceChildren(
    html(
      "tr",
      null,
      COLUMNS.map((column) => headCell(column, view)),
    ),
  );
  byId("body").replaceChildren(...ordered.slice(0, shownRows).map((row) => bodyRow(row, view)));
  const left = ordered.length - shownRows;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  byId("caption").textContent =
    `${counted(rows.length, "result")} of ${view.workload.label}: ${view.workload.task}. Speedup over ${baselineName(view.baseline)}.`;
}

function drawProblems(rows) {
  byId("problems").hidden = rows.length === 0;
  byId("problem-body").replaceChildren(
    ...rows
      .slice(0, PAGE)
      .map((row) =>
        html(
          "tr",
          null,
          html("th", { scope: "row" }, row.name),
          html("td", null, row.machine.label),
          html("td", null, row.problem),
          html("td", null, day(row.run.measured)),
          html("td", null, provenanceButton(row)),
        ),
      ),
  );
  byId("problem-count").textContent =
    `${counted(rows.length, "row")} ${rows.length === 1 ? "is" : "are"} no result, and ${rows.length === 1 ? "is" : "are"} drawn nowhere.`;
}
