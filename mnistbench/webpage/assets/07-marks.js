// Marks of the charts: their shapes and colours, and what they tell when they are pointed at, or reached by keyboard.

const COLOURS = 8;
const colourOf = (backend) => `k${(DATA.colours[backend] ?? 0) % COLOURS}`;
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
const GREYS = 3; // of machines, in the style sheet

/** Returns the path of a shape around a point. */
function shapePath(shape, x, y, r) {
  const [a, b] = [x.toFixed(1), y.toFixed(1)];
  if (shape === "square") return `M${a} ${b}m${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (shape === "diamond")
    return `M${a} ${b}m0 ${-1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`;
  if (shape === "triangle") return `M${a} ${b}m0 ${-1.25 * r}l${1.25 * r} ${2.2 * r}h${-2.5 * r}z`;
  if (shape === "arrow") return `M${a} ${b}m${-r} ${-1.2 * r}l${2.2 * r} ${1.2 * r}l${-2.2 * r} ${1.2 * r}z`;
  if (shape === "cross") return `M${a} ${b}m${-r} ${-r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;
  return `M${a} ${b}m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

/** Returns the shape of a dtype; float64 is open too. */
const shapeOf = (dtype) => (dtype === "float64" ? "diamond" : "circle");

/** What the marks on the page tell, by their elements: the row, and a function that returns lines of text. */
const MARKS = new WeakMap();

/** Makes a mark that tells lines of text, and opens the row's provenance; `label` is what it is called before that. */
function mark(chart, one) {
  const { x, y, row, shape, hollow, colour, lines, label, low, high, rounds, small } = one;
  const told = { role: "button", tabindex: -1, "aria-label": label ?? lines().join("; ") };
  const drawn = { class: hollow ? "shape hollow" : "shape", d: shapePath(shape, x, y, small ? 3.5 : 5) };
  const dots = rounds?.length ? roundDots(rounds, y) : null;
  const dashed = row.skips !== null && one.dashed ? "3 2" : null;
  const bar =
    low === null
      ? null
      : svg("line", { class: "interval", x1: low, x2: high, y1: y, y2: y, "stroke-dasharray": dashed });
  const made = small
    ? svg("path", { ...drawn, ...told, class: `mark ${drawn.class} ${colour}` })
    : svg(
        "g",
        { ...told, class: `mark ${colour}` },
        dots,
        bar,
        svg("path", drawn),
        svg("path", { class: "target", d: shapePath("circle", x, y, 12) }),
      );
  MARKS.set(made, { row, lines });
  chart.marks.push(made);
  return made;
}

/** Draws the rounds of a row as dots, those of each process on a line of their own. */
function roundDots(processes, y) {
  const gap = Math.min(4, 18 / Math.max(1, processes.length - 1));
  const parts = processes.map((rounds, i) => {
    const at = y + gap * (i - (processes.length - 1) / 2);
    const line = `M${Math.min(...rounds).toFixed(1)} ${at.toFixed(1)}H${Math.max(...rounds).toFixed(1)}`;
    return { line: processes.length > 1 ? line : "", dots: rounds.map((x) => shapePath("circle", x, at, 1.9)).join("") };
  });
  return svg(
    "g",
    null,
    svg("path", { class: "process", d: parts.map((one) => one.line).join("") }),
    svg("path", { class: "round", d: parts.map((one) => one.dots).join("") }),
  );
}

/** Lets a chart's marks tell what they tell, and arrow keys move among them: the chart is one stop of the Tab key. */
function walkable(element, marks) {
  marks[0]?.setAttribute("tabindex", 0);
  const on = (name, act) => element.addEventListener(name, (event) => act(event.target.closest(".mark"), event));
  on("pointerover", (at) => at && showTip(at));
  on("pointerout", (at) => at && hideTip());
  on("focusin", (at) => at && showTip(at));
  on("focusout", hideTip);
  on("click", (at) => at && showProvenance(MARKS.get(at).row));
  on("keydown", (at, event) => at && pressed(at, event, marks));
}

function pressed(mark, event, marks) {
  const at = marks.indexOf(mark);
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -at, End: marks.length - 1 - at };
  if (event.key === "Escape") return hideTip();
  if (event.key === "Enter" || event.key === " ") showProvenance(MARKS.get(mark).row);
  else if (Object.hasOwn(steps, event.key)) {
    const next = marks[(at + steps[event.key] + marks.length) % marks.length];
    mark.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.setAttribute("aria-label", MARKS.get(next).lines().join("; "));
    next.focus();
  } else return;
  event.preventDefault();
}

/** Shows beside a mark what it tells. */
function showTip(element) {
  const tip = byId("tip");
  const lines = MARKS.get(element).lines();
  tip.replaceChildren(...lines.map((line, i) => html(i ? "div" : "strong", null, line)));
  tip.hidden = false;
  const [at, own] = [(element.querySelector(".shape") ?? element).getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.max(
    8,
    Math.min(at.left + at.width / 2 - own.width / 2, document.documentElement.clientWidth - own.width - 8),
  );
  const above = at.top - own.height - 10;
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${(above < 8 ? at.bottom + 10 : above) + window.scrollY}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

/** Returns what a row tells of its time, line by line. */
function timeLines(row) {
  return [
    `${row.name}: ${timeText(row)}`,
    `${levelText(row.timing.level)} interval: ${timeRange(row)}`,
    `${centreText(row)}, ${roundsText(row)}`,
    `${row.machine.label}, ${deviceText(row)}`,
    `${day(row.run.measured)} at ${shortCommit(COMMIT.get(row.run.code))}`,
    ...doubts(row),
  ];
}

/** Returns where a row ran. */
const deviceText = (row) =>
  [row.device === "CPU" ? "" : row.device, counted(row.threads ?? 0, "thread"), row.among].filter(Boolean).join(", ");

/** Returns what disturbed a row, what it skips, and what else restricts what it says, line by line. */
const doubts = (row) => [
  ...row.noise.map((note) => `⚠ ${note}`),
  ...(row.skips === null ? [] : [`† skips ${row.skips}`]),
  ...row.notes,
];
