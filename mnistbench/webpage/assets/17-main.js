// Draws the view, and starts the page.

function draw() {
  chartWidth = Math.max(280, byId("main").clientWidth);
  const focused = document.activeElement?.dataset?.focus;
  const rows = chosenRows(VIEW);
  const valid = rows.filter((row) => row.valid);
  const problems = rows.filter((row) => !row.valid);
  showControls();
  byId("h-answers").textContent = `Which backend is fastest for ${VIEW.workload.label}`;
  byId("task").textContent = VIEW.workload.task;
  byId("answers").replaceChildren(...(valid.length ? answers(valid, VIEW) : [html("p", null, "No result matches these choices. Choose more, or reset them.")]));
  drawTimes(valid, VIEW);
  drawSpeedups(valid, VIEW);
  drawLimits(valid, VIEW);
  drawMachines(valid, VIEW);
  drawHistory(VIEW);
  drawCommits(VIEW);
  drawTable(valid, VIEW);
  drawProblems([...problems, ...SIZED.filter((row) => !row.valid)]);
  say(`${counted(valid.length, "result")} shown${problems.length ? `, ${counted(problems.length, "row")} without a result` : ""}`);
  if (focused) document.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

function start() {
  makeControls();
  makeScaling();
  VIEW = fromFragment(location.hash);
  byId("app").hidden = false;
  byId("plain").hidden = true;
  showTheme();
  draw();
  drawScaling();
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
    drawScaling();
  });
  if (matchMedia("(max-width: 60rem)").matches) byId("choices").open = false;
}

if (WORKLOADS.length) start();
