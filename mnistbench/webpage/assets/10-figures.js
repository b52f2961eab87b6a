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
}

/** Returns a function that names a lane: the backend, and what else tells the rows of a machine apart. */
function laneNames(rows, view) {
  const differ = new Map();
  for (const [machine, of] of grouped(rows, (row) => row.machine)) {
    const several = (value) => new Set(of.map(value)).size > 1;
    differ.set(machine, { device: several((row) => row.device), threads: several((row) => row.threads) });
  }
  return (row) => {
    const parts = [row.name];
    if (differ.get(row.machine).device) parts.push(row.device);
    if (differ.get(row.machine).threads) parts.push(counted(row.threads, "thread"));
    if (view.commits !== "latest") parts.push(`at ${shortCommit(COMMIT.get(row.run.code))}`);
    return parts.join(" ");
  };
}

/** Arranges rows as lanes, a group for each machine; `make` returns a row's mark. */
function laneGroups(rows, view, make) {
  const shown = sorted(rows, view).slice(0, MOST_LANES);
  const name = laneNames(shown, view);
  const groups = [...grouped(shown, (row) => row.machine)].sort(([a], [b]) => a.place - b.place);
  return groups.map(([machine, of]) => ({
    heading: machine.label,
    lanes: of.map((row) => ({ label: name(row), marks: [make(row)] })),
  }));
}

const leftOut = (rows) =>
  rows.length > MOST_LANES ? ` Only ${MOST_LANES} of ${rows.length} rows are drawn: choose fewer.` : "";

const style = (row) => ({
  row,
  shape: shapeOf(row.dtype),
  hollow: row.dtype === "float64",
  colour: colourOf(row.backend),
});

function drawTimes(rows, view) {
  const make = (row) => ({
    ...style(row),
    value: row.timing.value,
    low: row.timing.low,
    high: row.timing.high,
    rounds: view.rounds ? row.seconds : [],
    told: timeText(row) + (row.timing.noisy ? " ⚠" : ""),
    lines: () => timeLines(row),
  });
  const spec = {
    title: `Training time, ${view.workload.label}`,
    groups: laneGroups(rows, view, make),
    axis: (values, start, end) => logAxis(values, start, end, (tick) => seconds(tick, 2)),
    unit: "seconds of a training, logarithmic: left is faster",
  };
  figure("times", spec.title, rows.length ? (width) => laneChart(spec, width) : null, leftOut(rows));
}

function drawSpeedups(rows, view) {
  const first = sorted(rows, view).slice(0, MOST_LANES);
  const shown = first.filter((row) => speedup(row, view.baseline) !== null);
  const make = (row) => {
    const found = speedup(row, view.baseline);
    const why = whyUncertain(found);
    return {
      ...style(row),
      shape: found.paired ? shapeOf(row.dtype) : "cross",
      value: found.value,
      low: found.low,
      high: found.high,
      told: `${found.paired ? "" : "≈ "}${times(found.value)}${found.paired && found.low === null ? " ?" : ""}`,
      lines: () => [
        `${row.name}: ${speedupText(found)}`,
        `over ${found.over.name}, ${timeText(found.over)}`,
        why || `within the same rounds; ${levelText(DATA.level)} interval`,
        `${row.machine.label}; ${roundsText(row)}`,
        ...row.notes,
      ],
    };
  };
  const over = baselineName(view.baseline) + (view.baseline.dtype === null ? " in the same dtype" : "");
  const spec = {
    title: `Speedup over ${over}, ${view.workload.label}`,
    groups: laneGroups(shown, view, make),
    axis: (values, start, end) => logAxis(values, start, end, (tick) => times(tick, 2)),
    unit: `times as fast as ${over}, logarithmic: right is faster`,
    reference: [1, "as fast as the baseline"],
  };
  figure("speedups", spec.title, shown.length ? (width) => laneChart(spec, width) : null, leftOut(rows));
}

function drawLimits(rows, view) {
  const shown = rows.filter((row) => row.peak !== null || row.bandwidth !== null);
  byId("nearest").replaceChildren(nearestAnswer(shown));
  const make = (row) => {
    const limit = nearest(row);
    const both = [
      [row.peak, `of the multiply-add peak in ${row.dtype}`],
      [row.bandwidth, `of the bandwidth of ${row.level}`],
    ];
    return {
      ...style(row),
      hollow: row.skips !== null,
      value: limit.value,
      low: 0,
      high: limit.value,
      told: `${share(limit.value)} ${limit.short}${row.skips === null ? "" : " †"}`,
      lines: () => [
        `${row.name}: ${share(limit.value)} of ${limit.of}`,
        ...both.filter(([value]) => value !== null).map(([value, of]) => `${share(value)} ${of}`),
        ...(row.skips === null ? [] : [`† skips ${row.skips}`]),
        row.machine.label,
      ],
    };
  };
  const spec = {
    title: `Share of the machine's limits, ${view.workload.label}`,
    groups: laneGroups(shown, view, make),
    axis: (values, start, end) => linearAxis(values, start, end, (tick) => percent(tick, 0), 1),
    unit: "share of the limit that it comes nearest to: of arithmetic, or of reading the images",
    reference: [1, "the measured limit"],
  };
  figure("limits", spec.title, shown.length ? (width) => laneChart(spec, width) : null, leftOut(shown));
}

/** What machines are compared by: how a row is told and drawn then, and the axis. */
const MEASURES = {
  time: {
    has: () => true,
    value: (row) => row.timing.value,
    ends: (row) => ({ low: row.timing.low, high: row.timing.high }),
    told: (row) => timeText(row) + (row.timing.noisy ? " ⚠" : ""),
    hollow: () => false,
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
    hollow: (row) => row.skips !== null,
    lines: (row) => [
      `${row.name}: ${share(nearest(row).value)} of ${nearest(row).of}`,
      row.machine.label,
      ...(row.skips === null ? [] : [`† skips ${row.skips}`]),
    ],
    axis: (values, start, end) => linearAxis(values, start, end, (tick) => percent(tick, 0), 1),
    title: "Share of the nearest limit",
    unit: "share of the machine's own limit",
    sentences: "machinesByLimit",
  },
};

/** Draws one lane for each backend and dtype, and in it a mark for each machine. */
function drawMachines(rows, view) {
  const measure = MEASURES[view.measure];
  const last = lastOfCases(rows).filter(measure.has);
  const machines = [...new Set(last.map((row) => row.machine))].sort((a, b) => a.place - b.place);
  const make = (row) => ({
    row,
    ...measure.ends(row),
    shape: SHAPES[row.machine.place % SHAPES.length],
    colour: `k${row.machine.place % COLOURS}`,
    hollow: measure.hollow(row),
    value: measure.value(row),
    told: measure.told(row),
    lines: () => measure.lines(row),
  });
  const cases = [...grouped(sorted(last, view), laneNames(last, { ...view, commits: "latest" }))];
  const lanes = cases.slice(0, MOST_LANES).map(([label, of]) => ({
    label,
    marks: of.sort((a, b) => a.machine.place - b.machine.place).map(make),
  }));
  const title = `${measure.title}, machines side by side, ${view.workload.label}`;
  const spec = { title, groups: [{ heading: "", lanes }], axis: measure.axis, unit: measure.unit };
  const draw = machines.length > 1 ? (width) => laneChart(spec, width) : null;
  figure("machines", title, draw, leftOut(cases), measure.sentences);
  byId("legend").replaceChildren(...machines.map(legendEntry));
}

function legendEntry(machine) {
  const icon = svg(
    "svg",
    { width: 18, height: 14, "aria-hidden": "true", class: `k${machine.place % COLOURS}` },
    svg("path", { class: "shape", d: shapePath(SHAPES[machine.place % SHAPES.length], 9, 7, 5) }),
  );
  return html("li", null, icon, machine.label);
}
