// Downloads: the rows that are shown, as CSV and JSON, and a chart as SVG and PNG.

function download(name, parts, type) {
  const href = URL.createObjectURL(new Blob(parts, { type }));
  const link = html("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
  say(`Saved ${name}`);
}

/** Returns what a download tells of a row, by the name of the column. */
function record(row) {
  const found = speedup(row, VIEW.baseline);
  const limit = nearest(row);
  return {
    workload: row.workload.label,
    backend: row.backend,
    dtype: row.dtype,
    machine: row.machine.label,
    device: row.device,
    threads: row.threads,
    images: row.size?.images ?? null,
    hidden_units: row.size?.hidden ?? null,
    ranks: row.ranks?.count ?? null,
    iterations: row.iterations,
    seconds: row.timing?.value ?? null,
    seconds_low: row.timing?.low ?? null,
    seconds_high: row.timing?.high ?? null,
    interval_level: row.timing?.level ?? null,
    spread_of_rounds: row.timing?.spread ?? null,
    spread_of_processes: row.timing?.between ?? null,
    baseline: found?.over.name ?? null,
    speedup: found?.value ?? null,
    speedup_low: found?.low ?? null,
    speedup_high: found?.high ?? null,
    paired: found?.paired ?? null,
    limit_share: limit?.value ?? null,
    limit: limit?.short ?? null,
    skips: row.skips,
    training_accuracy: row.accuracy,
    problem: row.problem,
    commit: row.run.commit,
    dirty: row.run.dirty,
    measured: row.run.measured,
    folder: row.run.folder,
    file: row.run.file,
    warnings: row.noise,
    notes: row.notes,
    versions: Object.entries(row.versions).map(([name, version]) => `${name} ${version}`),
    processes: row.processes.length,
    rounds_per_process: row.processes,
    round_seconds: row.seconds,
  };
}

/** Writes a cell of a CSV file; a text that a spreadsheet would compute gets an apostrophe before it. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const words = Array.isArray(value) ? value.join("; ") : value;
  const safe = /^[=+\-@\t\r\n]/.test(words) ? `'${words}` : words;
  return /[",;\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function asCsv(rows) {
  const records = rows.map(record);
  const names = Object.keys(records[0] ?? { workload: "" });
  return (
    [names, ...records.map((one) => names.map((name) => one[name]))]
      .map((line) => line.map(cell).join(","))
      .join("\r\n") + "\r\n"
  );
}

const asJson = (rows) =>
  JSON.stringify({ format: DATA.format, view: asFragment(VIEW), rows: rows.map(record) }, null, 1);

/** Returns a name for a file: letters, digits and hyphens. */
const fileName = (words, suffix) =>
  `${
    words
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-|-$/g, "")
      .slice(0, 80) || "mnistbench"
  }.${suffix}`;

const DRAWN = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-opacity",
  "stroke-dasharray",
  "stroke-linecap",
  "font-size",
  "font-family",
  "font-weight",
  "opacity",
  "text-anchor",
];

/** Returns a copy of an SVG element that looks the same alone, with its styles as attributes. */
function standalone(shown) {
  const copied = shown.cloneNode(true);
  const [from, to] = [shown, copied].map((one) => [one, ...one.querySelectorAll("*")]);
  from.forEach((element, i) => {
    const computed = getComputedStyle(element);
    for (const name of DRAWN) to[i].setAttribute(name, computed.getPropertyValue(name));
    for (const name of ["class", "tabindex", "role"]) to[i].removeAttribute(name);
  });
  return copied;
}

/** Returns a chart as the text of an SVG file: its panels one below the other, a title, a ground, and where it is from. */
function asSvg(section) {
  const page = getComputedStyle(document.body);
  const panels = [...section.querySelectorAll(".canvas svg")];
  const width = Math.max(...panels.map((panel) => Number(panel.getAttribute("width"))));
  const written = (y, size, words, weight) =>
    svg("text", { x: 8, y, fill: page.color, "font-size": size, "font-weight": weight, "font-family": page.fontFamily }, words);
  let height = 36;
  const placed = panels.map((panel) => {
    const copied = standalone(panel);
    copied.setAttribute("y", height);
    height += Number(panel.getAttribute("height"));
    return copied;
  });
  const foot = wrapped(footOf(section), Math.floor((width - 16) / 5.8)).map((line) => written((height += 15), 10.5, line, 400));
  height += 10;
  const ground = svg("rect", { width, height, fill: page.backgroundColor });
  const title = written(24, 15, section.dataset.title, 600);
  const whole = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, ground, title, placed, foot);
  return new XMLSerializer().serializeToString(whole);
}

/** Tells what a chart alone would not: how it is read, and where its rows are from. */
function footOf(section) {
  const rows = [...section.querySelectorAll(".canvas .mark")].map((element) => MARKS.get(element).row);
  const each = (of) => [...new Set(rows.map(of))].join(", ");
  const days = rows.map((row) => day(row.run.measured)).sort();
  const baseline = section.id === "speedups" ? ` Baseline: ${baselineText(VIEW.baseline)}.` : "";
  return (
    `${section.dataset.key} Filled: float32, open: float64. ⚠: disturbed. †: skips work.${baseline} Machines: ` +
    `${each((row) => row.machine.label)}. Commits: ${each((row) => shortCommit(COMMIT.get(row.run.code)))}. Measured ` +
    `${days[0]} to ${days.at(-1)}. Saved ${day(new Date().toISOString())} from a page of mnistbench.`
  );
}

/** Breaks a text into lines of at most so many characters. */
function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length + 1 > most) lines.push("");
    lines.push(`${lines.pop()} ${word}`.trim());
  }
  return lines;
}

function saveSvg(section) {
  download(fileName(section.dataset.title, "svg"), [asSvg(section)], "image/svg+xml");
}

async function savePng(section) {
  try {
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(asSvg(section))}`;
    await image.decode();
    const canvas = html("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    if (blob === null) throw new Error("the picture is too large");
    download(fileName(section.dataset.title, "png"), [blob], "image/png");
  } catch (error) {
    say(`This browser made no PNG of it (${error.message}); SVG may work.`);
  }
}
