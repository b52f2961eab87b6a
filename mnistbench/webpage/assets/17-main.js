// Draws the view, and starts the page.

let waiting = []; // parts of the page that are still to be drawn: none of them is seen

/** Draws the view: what is seen at once, and the rest after the browser has shown that. */
function draw() {
  chartWidth = Math.max(280, byId("main").clientWidth);
  const focused = document.activeElement?.dataset?.focus;
  const view = VIEW;
  const rows = chosenRows(view);
  const valid = rows.filter((row) => row.valid);
  const parts = {
    answers: () => drawAnswers(valid, view),
    overview: () => drawOverview(view),
    times: () => drawTimes(valid, view),
    speedups: () => drawSpeedups(valid, view),
    limits: () => drawLimits(valid, view),
    machines: () => drawMachines(valid, view),
    history: () => drawHistory(view),
    commits: () => drawCommits(view),
    scaling: () => drawScaling(view),
    rows: () => drawTable(valid, view),
    problems: () => drawProblems(view),
  };
  const seen = new Set(Object.keys(parts).filter(isSeen));
  document.body.dataset.drawn = "partly";
  waiting = Object.entries(parts)
    .filter(([id]) => !seen.has(id))
    .map(([, part]) => part);
  waiting.push(...foreseen(view));
  showControls();
  for (const id of seen) parts[id]();
  const without = rows.length - valid.length;
  say(`${counted(valid.length, "result")} shown${without ? `, ${counted(without, "row")} without a result` : ""}`);
  if (focused) document.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  setTimeout(drawNext);
}

/** Returns work that a choice to come would wait for, in short pieces: the speedups of the workload's rows. */
function foreseen(view) {
  const rows = BY_WORKLOAD.get(view.workload) ?? [];
  const pieces = [];
  for (let at = 0; at < rows.length; at += 200)
    pieces.push(() => rows.slice(at, at + 200).forEach((row) => speedup(row, view.baseline)));
  return pieces;
}

/** Tells whether a section is on the screen. */
function isSeen(id) {
  const { top, bottom } = byId(id).getBoundingClientRect();
  return bottom >= 0 && top <= innerHeight;
}

/** Draws a part that waits, and the next one after the browser has done what else there is to do. */
function drawNext() {
  waiting.shift()?.();
  if (waiting.length) setTimeout(drawNext);
  else {
    listSections();
    document.body.dataset.drawn = "all";
  }
}

/** Lists the sections after the answers that the page has now, as links. */
function listSections() {
  const shown = [...document.querySelectorAll("#main > section[id]")].filter((section) => !section.hidden);
  const link = (section) => html("a", { href: `#${section.id}` }, section.querySelector("h2").textContent);
  byId("sections").replaceChildren(...shown.map((section) => html("li", null, link(section))));
}

/** Draws all that waits. */
function drawRest() {
  while (waiting.length) waiting.shift()();
}

function drawAnswers(valid, view) {
  byId("h-answers").textContent = `Which backend is fastest for ${view.workload.label}`;
  byId("task").textContent = view.workload.task;
  byId("fair").hidden = !byMachine(valid).some(([, [fastest]]) => fastest.skips !== null);
  byId("answers").replaceChildren(
    ...(valid.length
      ? answers(valid, view)
      : [html("p", null, "No result matches these choices. Choose more, or reset them.")]),
  );
}

function start() {
  makeControls();
  VIEW = fromFragment(location.hash);
  byId("app").hidden = false;
  showTheme();
  draw();
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return history.replaceState(null, "", asFragment(VIEW));
    VIEW = fromFragment(location.hash);
    draw();
  });
  let width = document.documentElement.clientWidth;
  addEventListener("resize", () => {
    if (width === document.documentElement.clientWidth) return;
    width = document.documentElement.clientWidth;
    draw();
  });
  addEventListener("beforeprint", () => {
    shownRows = Infinity; // paper cannot be asked for more
    draw();
    drawRest();
  });
  addEventListener("afterprint", () => {
    shownRows = PAGE;
    draw();
  });
  if (matchMedia("(max-width: 60rem)").matches) byId("choices").open = false;
}

start();
