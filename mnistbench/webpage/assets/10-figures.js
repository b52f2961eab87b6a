// The charts of a view. Each has a sentence on how to read it, and one on what would make it wrong.

const MOST_LANES = 48; // lanes of a chart; more cannot be read
let chartWidth = 0; // pixels; measured once for all charts, since asking for it lays the page out

/** Puts a chart into its section, with its two sentences; `draw` makes it for a width, in one panel or several.
 *
 * `note` is added to how it is read, and `sentences` names others than the section's.
 */
function figure(id, title, draw, note = "", sentences = id) {
  const section = byId(id);
  const canvas = section.querySelector(".canvas");
  section.hidden = draw === null;
  if (draw === null) return canvas.replaceChildren();
  canvas.replaceChildren(...[draw(chartWidth)].flat());
  const caption = section.querySelector("figcaption");
  const { read, wrong } = SENTENCES[sentences];
  caption.replaceChildren(
    html("p", null, html("b", null, "How to read it. "), read, note),
    html("p", null, html("b", null, "What would make it wrong. "), wrong),
  );
  section.dataset.title = title;
  section.dataset.key = SENTENCES[sentences].key;
}

/** Names a lane: the row, and its commit where several are shown. */
const laneName = (row, view) =>
  view.commits === "latest" ? row.name : `${row.name} at ${shortCommit(COMMIT.get(row.run.code))}`;

/** Arranges rows as lanes, a group for each machine; `make` returns a row's mark. */
function laneGroups(rows, view, make) {
  const groups = grouped(sorted(rows, view).slice(0, MOST_LANES), (row) => row.machine);
  return [...groups].map(([machine, of]) => ({
    heading: machine.label,
    lanes: of.map((row) => ({ label: laneName(row, view), marks: [make(row)] })),
  }));
}

const leftOut = (rows) =>
  rows.length > MOST_LANES ? ` Only ${MOST_LANES} of ${rows.length} rows are drawn: choose fewer.` : "";

/** Says that rows of several ranks are not in a chart of single processes. */
const ranksLeftOut = (rows) =>
  rows.length > alone(rows).length ? " Rows of several ranks are in the table alone: more processors are no rival of one." : "";

/** Says which levels the intervals of the times have, if not all have the same. */
function levels(rows) {
  const found = [...new Set(rows.map((row) => levelText(row.timing.level)))].sort();
  return found.length > 1 ? ` Levels of these intervals: ${found.join(", ")}, as few rounds allow.` : "";
}

const style = (row) => ({
  row,
  shape: shapeOf(row.dtype),
  hollow: row.dtype === "float64",
  colour: colourOf(row.backend),
});

function drawTimes(results, view) {
  const rows = alone(results);
  const make = (row) => ({
    ...style(row),
    value: row.timing.value,
    low: row.timing.low,
    high: row.timing.high,
    rounds: view.rounds ? processesOf(row) : [],
    told: timeText(row) + signs(row),
    lines: () => timeLines(row),
  });
  const spec = {
    title: `Training time, ${view.workload.label}`,
    groups: laneGroups(rows, view, make),
    axis: (values, start, end) => logAxis(values, start, end, (tick) => seconds(tick, 2)),
    unit: "seconds of a training, logarithmic: left is faster",
  };
  const note = levels(rows) + leftOut(rows) + ranksLeftOut(results);
  figure("times", spec.title, rows.length ? (width) => laneChart(spec, width) : null, note);
}

function drawSpeedups(rows, view) {
  const shown = alone(rows).filter((row) => speedup(row, view.baseline) !== null);
  const make = (row) => {
    const found = speedup(row, view.baseline);
    const why = whyUncertain(found);
    return {
      ...style(row),
      shape: found.paired ? shapeOf(row.dtype) : "cross",
      value: found.value,
      low: found.low,
      high: found.high,
      told: `${found.paired ? "" : "≈ "}${times(found.value)}${found.paired && found.low === null ? " ?" : ""}${signs(row)}`,
      lines: () => [
        `${row.name}: ${speedupText(found)}`,
        `over ${found.over.name}, ${timeText(found.over)}, at ${shortCommit(COMMIT.get(found.over.run.code))}`,
        why || `within the same rounds of ${heldIn(row)}; ${levelText(DATA.level)} interval`,
        `${row.machine.label}; ${roundsText(row)}`,
        ...doubts(row),
      ],
    };
  };
  const over = baselineName(view.baseline) + (view.baseline.dtype === null ? " in the same dtype" : "");
  const spec = {
    title: `Speedup over ${over}, ${view.workload.label}`,
    groups: laneGroups(shown, view.sort === "time" ? { ...view, sort: "speedup" } : view, make),
    axis: (values, start, end) => logAxis(values, start, end, (tick) => times(tick, 2)),
    unit: `times as fast as ${over}, logarithmic: right is faster`,
    reference: [1, "as fast as the baseline"],
  };
  figure("speedups", spec.title, shown.length ? (width) => laneChart(spec, width) : null, leftOut(shown));
}

/** Returns how a share of a limit is drawn: one above 1 as an arrow where the axis ends. */
const shareMark = (row) => (nearest(row).value > 1 ? "arrow" : shapeOf(row.dtype));

const limitLines = (row) => [
  `${row.name}: ${share(nearest(row).value)} ${nearest(row).short}`,
  ...limitsOf(row),
  ...(row.skips === null ? [] : [`† skips ${row.skips}`]),
  row.machine.label,
];

/** Returns a row's shares of both limits, and what these are. */
function limitsOf(row) {
  const both = [
    [row.peak, `the multiply-add peak in ${row.dtype}`, row.limits?.flops, "FLOP/s"],
    [row.bandwidth, `the bandwidth of ${row.level}`, row.limits?.bytes, "B/s"],
  ];
  return both
    .filter(([value]) => value !== null)
    .map(([value, of, most, unit]) => `${share(value)} of ${of}${most ? `, ${quantity(most, unit)}` : ""}`);
}

/** Tells each machine's limits: the latest that the rows shown know. */
function limitsTold(rows) {
  const told = [...grouped(rows, (row) => row.machine)].map(([machine, of]) => {
    const last = [...of].sort((a, b) => time(b.run.measured) - time(a.run.measured));
    const parts = new Map();
    for (const { limits, dtype, level } of last) {
      if (limits?.flops && !parts.has(dtype)) parts.set(dtype, `${quantity(limits.flops, "FLOP/s")} in ${dtype}`);
      if (limits?.bytes && !parts.has(level)) parts.set(level, `${quantity(limits.bytes, "B/s")} from ${level}`);
    }
    const at = last[0].limits?.measured;
    return `${machine.label}: ${[...parts.values()].join(", ")}${at ? ` (measured ${day(at)})` : ""}`;
  });
  return ` ${told.join("; ")}.`;
}

function drawLimits(results, view) {
  const rows = alone(results).filter((row) => row.peak !== null || row.bandwidth !== null);
  byId("nearest").replaceChildren(nearestAnswer(rows));
  const make = (row) => ({
    ...style(row),
    shape: shareMark(row),
    dashed: true,
    value: nearest(row).value,
    low: 0,
    high: nearest(row).value,
    told: `${share(nearest(row).value)} ${nearest(row).short}${row.skips === null ? "" : " †"}`,
    lines: () => limitLines(row),
  });
  const spec = {
    title: `Share of the machine's limits, ${view.workload.label}`,
    groups: laneGroups(rows, view, make),
    axis: (values, start, end) => shareAxis(start, end, (tick) => percent(tick, 0)),
    unit: "share of the limit that it comes nearest to: of arithmetic, or of reading the images",
    reference: [1, "the measured limit"],
  };
  const draw = rows.length ? (width) => laneChart(spec, width) : null;
  figure("limits", spec.title, draw, rows.length ? limitsTold(rows) + leftOut(rows) : "");
}

/** What machines are compared by: how a row is told and drawn then, and the axis. */
const MEASURES = {
  time: {
    has: () => true,
    value: (row) => row.timing.value,
    ends: (row) => ({ low: row.timing.low, high: row.timing.high }),
    told: (row) => timeText(row) + signs(row),
    shape: () => null,
    lines: timeLines,
    axis: (values, start, end) => logAxis(values, start, end, (tick) => seconds(tick, 2)),
    title: "Training time",
    unit: "seconds of a training, logarithmic: left is faster",
    sentences: "machines",
  },
  limit: {
    has: (row) => nearest(row) !== null,
    value: (row) => nearest(row).value,
    ends: () => ({ low: null, high: null }),
    told: (row) => share(nearest(row).value) + (row.skips === null ? "" : " †"),
    shape: (row) => (nearest(row).value > 1 ? "arrow" : null),
    lines: limitLines,
    axis: (values, start, end) => shareAxis(start, end, (tick) => percent(tick, 0)),
    title: "Share of the nearest limit",
    unit: "share of the machine's own limit",
    sentences: "machinesByLimit",
  },
};

const machineShape = (machine) => SHAPES[machine.place % SHAPES.length];

/** Returns a machine's grey: its colour is nobody's, since colours are backends. */
const machineColour = (machine) => `m${Math.floor(machine.place / SHAPES.length) % GREYS}`;

/** Draws one lane for each backend and dtype, and in it a mark for each machine. */
function drawMachines(results, view) {
  const measure = MEASURES[view.measure];
  const last = lastOfCases(alone(results)).filter(measure.has);
  const machines = [...new Set(last.map((row) => row.machine))].sort((a, b) => a.place - b.place);
  const make = (row) => ({
    row,
    ...measure.ends(row),
    shape: measure.shape(row) ?? machineShape(row.machine),
    colour: machineColour(row.machine),
    hollow: row.dtype === "float64",
    value: measure.value(row),
    told: measure.told(row),
    lines: () => measure.lines(row),
  });
  const cases = [...grouped(sorted(last, view), (row) => row.name)];
  const lanes = cases.slice(0, MOST_LANES).map(([label, of]) => ({ label, marks: of.map(make) }));
  const title = `${measure.title}, machines side by side, ${view.workload.label}`;
  const spec = { title, groups: [{ heading: "", lanes }], axis: measure.axis, unit: measure.unit };
  const draw = machines.length > 1 ? (width) => laneChart(spec, width) : null;
  figure("machines", title, draw, leftOut(cases), measure.sentences);
  byId("legend").replaceChildren(...machines.map(legendEntry));
}

function legendEntry(machine) {
  const icon = svg(
    "svg",
    { width: 18, height: 14, "aria-hidden": "true", class: machineColour(machine) },
    svg("path", { class: "shape", d: shapePath(machineShape(machine), 9, 7, 5) }),
  );
  return html("li", null, icon, machine.label);
}
