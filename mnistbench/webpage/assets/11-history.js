// History by commit.

/** Rows of all commits that the other choices leave. */
const historyRows = (view) => chosenRows({ ...view, commits: "all" }).filter((row) => row.valid);

const caseName = (row) =>
  [row.name, row.machine.label, row.device === "CPU" ? counted(row.threads, "thread") : row.device].join(", ");

/** Returns the cases of which several runs are stored. */
function repeatedCases(view) {
  return [...grouped(historyRows(view), caseName)].filter(([, rows]) => new Set(rows.map((row) => row.run)).size > 1);
}

/** Says where no case was measured at two commits, so that there is no history. */
const nothingToCompare = (rows) =>
  [...grouped(rows, caseName).values()].some((of) => new Set(of.map((row) => row.run.code)).size > 1)
    ? ""
    : " No case here was measured at two commits: nothing to compare.";

const commitLink = (one) => (DATA.commitsAt !== null && one.isHash ? DATA.commitsAt + one.commit : null);

/** Writes a commit, as a link if it is known where commits are shown. */
function commitText(one) {
  const href = commitLink(one);
  return href ? outside(href, shortCommit(one)) : html("code", null, shortCommit(one));
}

/** Makes a link that leads away from the page. */
const outside = (href, label) => html("a", { href, target: "_blank", rel: "noopener noreferrer" }, label);

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
    nothingToCompare(rows),
  );
}

function historyPanel(title, machine, rows) {
  const commits = COMMITS.filter((one) => rows.some((row) => row.run.code === one.id));
  const order = new Map(commits.map((one, place) => [one.id, place]));
  return {
    title: `${title}, ${machine.label}`,
    heading: machine.label,
    series: [...grouped(rows, (row) => row.name)].map(([label, of]) => historyLine(label, of, order)),
    ticks: commits.map((one, at) => ({ at, label: shortCommit(one), href: commitLink(one) })),
    place: (start, end) => (at) => start + ((at + 0.5) / commits.length) * (end - start),
    unit: "commit, in order of date",
    measure: "time of a training, logarithmic",
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
      said: `${label}: ${seconds(row.timing.value)} at ${shortCommit(COMMIT.get(code))}`,
    })),
  );
  points.sort((a, b) => a.at - b.at);
  points.forEach((one, i) => {
    const before = points[i - 1];
    one.lines = () => [...timeLines(one.row), ...(before ? [sinceText(before.row, one.row)] : [])];
  });
  return { label, points, colour: colourOf(first.backend), dash: first.dtype === "float64" ? "5 3" : null };
}

/** Tells how a row's time changed since the run before it. */
const sinceText = (before, row) =>
  `≈ ${times(before.timing.value / row.timing.value)} as fast as in the run before, at ` +
  `${shortCommit(COMMIT.get(before.run.code))}: not paired`;
