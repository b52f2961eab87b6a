// Scaling: the time of an iteration by the number of images, hidden units or threads.

const AXES = { images: "images", hidden: "hidden units", threads: "threads" };
const SIZED = DATA.rows.filter((row) => row.size !== null && row.latest && row.valid && row.ranks === null);

/** Returns the rows of all sizes that the choices leave. */
const sizedRows = (view) =>
  SIZED.filter(
    (row) => holds(view.backends, row.backend) && holds(view.dtypes, row.dtype) && holds(view.machines, row.machine.id),
  );

/** Draws the scaling along the chosen axis on the chosen machine, of the chosen backends and dtypes. */
function drawScaling(view) {
  const valid = sizedRows(view);
  byId("scaling").hidden = valid.length === 0;
  if (valid.length === 0) return;
  const axes = Object.keys(AXES).filter((axis) => valid.some((row) => row.size.axes.includes(axis)));
  const machines = DATA.machines.filter((machine) => valid.some((row) => row.machine === machine));
  const axis = axes.find((one) => one === view.axis) ?? axes[0];
  const machine = machines.find((one) => one.id === view.scalingMachine) ?? machines[0];
  fillSelect(
    byId("axis"),
    axes.map((one) => [one, AXES[one]]),
    axis,
  );
  fillSelect(
    byId("scaling-machine"),
    machines.map((one) => [one.id, one.label]),
    machine.id,
  );
  const rows = valid.filter((row) => row.machine === machine && row.size.axes.includes(axis));
  const series = [...grouped(rows, (row) => row.name)].map(([label, of]) => ({
    label,
    colour: colourOf(of[0].backend),
    dash: of[0].dtype === "float64" ? "5 3" : null,
    points: of.sort((a, b) => a.size[axis] - b.size[axis]).map((row) => scalingPoint(row, axis)),
  }));
  const sizes = [...new Set(rows.map((row) => row.size[axis]))].sort((a, b) => a - b);
  const fixed = fixedSizes(rows, axis);
  const spec = {
    title: [`Time of an iteration by ${AXES[axis]}`, ...fixed].join(", "),
    heading: machine.label,
    series,
    ticks: sizes.map((at) => ({ at, label: whole(at), href: null })),
    place: (start, end) => logAxis(sizes, start, end, String).at,
    unit: `${AXES[axis]}, logarithmic`,
    measure: "time of an iteration, logarithmic",
  };
  const note = ` ${["All have one hidden layer", ...fixed].join(", ")}.`;
  const sentences = axis === "threads" ? "scalingThreads" : "scaling";
  figure("scaling", spec.title, rows.length ? (width) => lineChart(spec, width) : null, note, sentences);
}

const SIZES = { images: "image", hidden: "hidden unit", threads: "thread" };
const sizesText = (size) => Object.entries(SIZES).map(([name, what]) => counted(size[name], what));

/** Tells the sizes that are the same for all rows along an axis. */
function fixedSizes(rows, axis) {
  const same = Object.keys(SIZES).filter((name) => name !== axis && new Set(rows.map((row) => row.size[name])).size === 1);
  return same.map((name) => counted(rows[0].size[name], SIZES[name]));
}

function scalingPoint(row, axis) {
  const each = (value) => value / row.iterations;
  const lines = () => [
    `${row.name}: ${seconds(each(row.timing.value))} an iteration`,
    sizesText(row.size).join(", "),
    `${levelText(row.timing.level)} interval: ${interval(each(row.timing.low), each(row.timing.high), seconds)}`,
    row.machine.label,
    ...doubts(row),
  ];
  return {
    ...style(row),
    at: row.size[axis],
    value: each(row.timing.value),
    low: each(row.timing.low),
    high: each(row.timing.high),
    said: `${row.name}, ${counted(row.size[axis], SIZES[axis])}: ${seconds(each(row.timing.value))} an iteration`,
    lines,
  };
}
