// Marks of the charts: their shapes and colours, and what they tell when they are pointed at, or reached by keyboard.

const COLOURS = 8;
const colourOf = (backend) => `k${(DATA.colours[backend] ?? 0) % COLOURS}`;
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];

/** Returns the path of a shape around a point. */
function shapePath(shape, x, y, r) {
  const [a, b] = [x.toFixed(1), y.toFixed(1)];
  if (shape === "square") return `M${a} ${b}m${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (shape === "diamond") return `M${a} ${b}m0 ${-1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`;
  if (shape === "triangle") return `M${a} ${b}m0 ${-1.25 * r}l${1.25 * r} ${2.2 * r}h${-2.5 * r}z`;
  if (shape === "cross") return `M${a} ${b}m${-r} ${-r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;
  return `M${a} ${b}m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

/** Returns the shape of a dtype; float64 is open too. */
const shapeOf = (dtype) => (dtype === "float64" ? "diamond" : "circle");

/** Makes a mark that tells lines of text, and opens the row's provenance. */
function mark(chart, { x, y, row, shape, hollow, colour, lines, low, high, rounds, upright }) {
  const parts = [];
  if (rounds?.length) parts.push(svg("path", { class: "round", d: rounds.map((at) => shapePath("circle", at, y, 2)).join("") }));
  if (low !== undefined && low !== null) {
    const [x1, x2, y1, y2] = upright ? [x, x, low, high] : [low, high, y, y];
    parts.push(svg("line", { class: "interval", x1, x2, y1, y2 }));
  }
  parts.push(svg("path", { class: hollow ? "shape hollow" : "shape", d: shapePath(shape, x, y, 5) }));
  parts.push(svg("path", { class: "target", d: shapePath("circle", x, y, 12) }));
  const made = svg("g", { class: `mark ${colour}`, role: "button", tabindex: -1, "aria-label": lines.join("; ") }, parts);
  made.addEventListener("pointerenter", () => showTip(made, lines));
  made.addEventListener("pointerleave", hideTip);
  made.addEventListener("focus", () => showTip(made, lines));
  made.addEventListener("blur", hideTip);
  made.addEventListener("click", () => showProvenance(row));
  chart.marks.push(made);
  return made;
}

/** Lets arrow keys move among the marks of a chart, which is one stop of the Tab key. */
function walkable(element, marks) {
  marks[0]?.setAttribute("tabindex", 0);
  element.addEventListener("keydown", (event) => {
    const at = marks.indexOf(event.target);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.target.dispatchEvent(new MouseEvent("click"));
      return;
    }
    if (event.key === "Escape") return hideTip();
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -at, End: marks.length - 1 - at };
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const next = marks[(at + steps[event.key] + marks.length) % marks.length];
    event.target.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

/** Shows lines of text beside a mark. */
function showTip(element, lines) {
  const tip = byId("tip");
  tip.replaceChildren(...lines.map((line, i) => html(i ? "div" : "strong", null, line)));
  tip.hidden = false;
  const [at, own] = [element.querySelector(".shape").getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.max(8, Math.min(at.left + at.width / 2 - own.width / 2, document.documentElement.clientWidth - own.width - 8));
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
    `${timeRange(row)}, ${levelText(row.timing.level)} interval of the median`,
    `${roundsText(row)}, scattering by ${percent(row.timing.spread)}${row.timing.noisy ? ": noisy" : ""}`,
    `${row.machine.label}, ${counted(row.threads, "thread")}`,
    `${day(row.run.measured)} at ${shortCommit(COMMIT.get(row.run.code))}`,
    ...row.notes,
  ];
}
