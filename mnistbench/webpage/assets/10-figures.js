// The charts of a view. Each has a sentence on how to read it, and one on what would make it wrong.

const MOST_LANES = 48; // lanes of a chart; more cannot be read
let chartWidth = 0; // pixels; measured once for all charts, since asking for it lays the page out

/** Puts a chart into its section, with its sentences and downloads; `draw` makes it for a width, in one panel or several. */
function figure(id, title, draw, read, wrong) {
  const section = byId(id);
  const canvas = section.querySelector(".canvas");
  section.hidden = draw === null;
  if (draw === null) return canvas.replaceChildren();
  canvas.replaceChildren(...[draw(chartWidth)].flat());
  const caption = section.querySelector("figcaption");
  caption.replaceChildren(html("p", null, html("b", null, "How to read it. "), read), html("p", null, html("b", null, "What would make it wrong. "), wrong));
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

const leftOut = (rows) => (rows.length > MOST_LANES ? ` Only ${MOST_LANES} of ${rows.length} rows are drawn: choose fewer.` : "");

const style = (row) => ({ row, shape: shapeOf(row.dtype), hollow: row.dtype === "float64", colour: colourOf(row.backend) });

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
  figure(
    "times",
    spec.title,
    rows.length ? (width) => laneChart(spec, width) : null,
    `A large mark is the median of a row's rounds, the bar its interval, and each small dot one round; ⚠ says that the rounds scatter by more than ${percent(DATA.noisy, 0)} of their median. Filled circles are float32, open diamonds float64.` + leftOut(rows),
    "Two rows whose bars are apart may still have swapped places if they were measured on different days: only rows of one run shared the machine's mood. A row of one process says little of the next one.",
  );
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
  figure(
    "speedups",
    spec.title,
    shown.length ? (width) => laneChart(spec, width) : null,
    "A bar is the 95% interval of the ratio within rounds that ran both in turn; where it holds 1, the two are not told apart. A cross with ≈ is a ratio of medians that are not paired, and has no interval; ? says that rounds were paired, but too few for one." + leftOut(rows),
    "A baseline that is slower than it needs to be, such as a NumPy whose library does not know the processor, makes every speedup larger; and intervals of several rows are not meant to hold all at once.",
  );
}

function drawLimits(rows, view) {
  const shown = rows.filter((row) => row.peak !== null || row.bandwidth !== null);
  byId("nearest").replaceChildren(nearestAnswer(shown));
  const make = (row) => {
    const limit = nearest(row);
    const both = [[row.peak, `of the multiply-add peak in ${row.dtype}`], [row.bandwidth, `of the bandwidth of ${row.level}`]];
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
  figure(
    "limits",
    spec.title,
    shown.length ? (width) => laneChart(spec, width) : null,
    "Each bar reaches to the larger of two shares: of the fastest multiply-adds measured on the machine, and of the measured bandwidth of the memory that holds the images. † and an open mark: the row skips work whose result is known, and counts it all the same, so its share may pass 100%." + leftOut(shown),
    "A limit that was measured while something else ran is too low, and the shares too high. The limits were measured anew for each run, so two runs on one machine may differ in them.",
  );
}

/** Draws one lane for each backend and dtype, and in it a mark for each machine. */
function drawMachines(rows, view) {
  const last = lastOfCases(rows);
  const byMachine = view.measure === "time" ? last : last.filter((row) => nearest(row) !== null);
  const machines = [...new Set(byMachine.map((row) => row.machine))].sort((a, b) => a.place - b.place);
  const drawn = machines.length > 1;
  const value = (row) => (view.measure === "time" ? row.timing.value : nearest(row).value);
  const make = (row) => ({
    row,
    shape: SHAPES[row.machine.place % SHAPES.length],
    hollow: view.measure === "limit" && row.skips !== null,
    colour: `k${row.machine.place % COLOURS}`,
    value: value(row),
    low: view.measure === "time" ? row.timing.low : null,
    high: view.measure === "time" ? row.timing.high : null,
    told: view.measure === "time" ? timeText(row) + (row.timing.noisy ? " ⚠" : "") : share(value(row)) + (row.skips === null ? "" : " †"),
    lines: () => view.measure === "time" ? timeLines(row) : [`${row.name}: ${share(value(row))} of ${nearest(row).of}`, row.machine.label, ...(row.skips === null ? [] : [`† skips ${row.skips}`])],
  });
  const cases = [...grouped(sorted(byMachine, view), laneNames(byMachine, { ...view, commits: "latest" }))].slice(0, MOST_LANES);
  const lanes = cases.map(([label, of]) => ({ label, marks: of.sort((a, b) => a.machine.place - b.machine.place).map(make) }));
  const measured = view.measure === "time" ? "Training time" : "Share of the nearest limit";
  const spec = {
    title: `${measured}, machines side by side, ${view.workload.label}`,
    groups: [{ heading: "", lanes }],
    axis: view.measure === "time"
      ? (values, start, end) => logAxis(values, start, end, (tick) => seconds(tick, 2))
      : (values, start, end) => linearAxis(values, start, end, (tick) => percent(tick, 0), 1),
    unit: view.measure === "time" ? "seconds of a training, logarithmic: left is faster" : "share of the machine's own limit",
  };
  const read = view.measure === "time"
    ? "Marks in one lane are the same backend and dtype on different machines, the row measured last on each; bars are the intervals of the medians."
    : "Marks in one lane show how much of its own machine's nearest limit each row reaches; † counts work that was skipped.";
  figure("machines", spec.title, drawn ? (width) => laneChart(spec, width) : null, read,
    "Machines differ in more than the processor: versions of libraries, the number of CPUs, what a hypervisor gives. A row's provenance lists them. No ratio between machines is shown, since none was measured in pairs.");
  byId("legend").replaceChildren(...machines.map((machine) => legendEntry(machine)));
}

function legendEntry(machine) {
  const icon = svg("svg", { width: 18, height: 14, "aria-hidden": "true", class: `k${machine.place % COLOURS}` }, svg("path", { class: "shape", d: shapePath(SHAPES[machine.place % SHAPES.length], 9, 7, 5) }));
  return html("li", null, icon, machine.label);
}
