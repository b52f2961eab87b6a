// Scaling: the time of an iteration by the number of images, hidden units or threads.

const AXES = { images: "images", hidden: "hidden units", threads: "threads" };
const SIZED = DATA.rows.filter((row) => row.size !== null && row.latest);

/** Draws the scaling along the chosen axis on the chosen machine; the other choices do not count here. */
function drawScaling(view) {
  const valid = SIZED.filter((row) => row.valid);
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
  const spec = {
    title: `Time of an iteration by ${AXES[axis]}`,
    series,
    ticks: sizes.map((at) => ({ at, label: whole(at), href: null })),
    place: (start, end) => logAxis(sizes, start, end, String).at,
    unit: `${AXES[axis]}, logarithmic`,
  };
  figure("scaling", spec.title, rows.length ? (width) => lineChart(spec, width) : null);
}

function scalingPoint(row, axis) {
  const each = (value) => value / row.iterations;
  const lines = () => [
    `${row.name}: ${seconds(each(row.timing.value))} an iteration`,
    `${counted(row.size.images, "image")}, ${counted(row.size.hidden, "hidden unit")}, ${counted(row.size.threads, "thread")}`,
    `${interval(each(row.timing.low), each(row.timing.high), seconds)}, ${levelText(row.timing.level)} interval`,
    row.machine.label,
    ...row.notes,
  ];
  return {
    ...style(row),
    at: row.size[axis],
    value: each(row.timing.value),
    low: each(row.timing.low),
    high: each(row.timing.high),
    lines,
  };
}
