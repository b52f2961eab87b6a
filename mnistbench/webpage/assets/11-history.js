// History by commit.

/** Rows of all commits that the other choices leave. */
const historyRows = (view) => chosenRows({ ...view, commits: "all" }).filter((row) => row.valid);

const caseName = (row) =>
  [row.name, row.machine.label, row.device === "CPU" ? counted(row.threads, "thread") : row.device].join(", ");

/** Returns the cases of which several runs are stored. */
function repeatedCases(view) {
  return [...grouped(historyRows(view), caseName)].filter(([, rows]) => new Set(rows.map((row) => row.run)).size > 1);
}

const commitLink = (one) => (DATA.commitsAt !== null && one.isHash ? DATA.commitsAt + one.commit : null);

/** Writes a commit, as a link if it is known where commits are shown. */
function commitText(one) {
  const href = commitLink(one);
  return href
    ? html("a", { href, target: "_blank", rel: "noopener noreferrer" }, shortCommit(one))
    : html("code", null, shortCommit(one));
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
  );
}

function historyPanel(title, machine, rows) {
  const commits = COMMITS.filter((one) => rows.some((row) => row.run.code === one.id));
  const order = new Map(commits.map((one, place) => [one.id, place]));
  const threads = new Set(rows.map((row) => row.threads)).size > 1;
  const name = (row) =>
    row.name + (row.device === "CPU" ? "" : ` ${row.device}`) + (threads ? ` ${counted(row.threads, "thread")}` : "");
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
  const at = [
    ...grouped(
      [...rows].sort((a, b) => time(a.run.measured) - time(b.run.measured)),
      (row) => row.run.code,
    ),
  ];
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
