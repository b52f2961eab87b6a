// The rows: what belongs to what, which of them are chosen, and their speedups.

const DATA = JSON.parse(byId("data").textContent);

DATA.runs.forEach((run, place) => Object.assign(run, { place, machine: DATA.machines[run.machine] }));
DATA.machines.forEach((machine, place) => Object.assign(machine, { place }));
DATA.workloads.forEach((workload, place) => Object.assign(workload, { place }));
DATA.rows.forEach((row, place) => {
  row.place = place;
  row.run = DATA.runs[row.run];
  row.machine = row.run.machine;
  row.workload = DATA.workloads[row.workload];
  row.valid = row.problem === null;
  row.noisy = row.noise.length > 0;
  row.among = row.ranks === null ? "" : `${counted(row.ranks.count, "rank")} on ${counted(row.ranks.hosts, "machine")}`;
});
for (const rows of grouped(DATA.rows, (row) => `${row.workload.place} ${row.machine.place}`).values()) {
  const differ = new Set(rows.filter((row) => row.device === "CPU").map((row) => row.threads)).size > 1;
  for (const row of rows) row.name = nameOf(row, differ && row.size === null);
}

/** Names a row: its backend and dtype, and what else tells it apart from others of its workload and machine. */
function nameOf(row, threads) {
  const parts = [`${row.backend} ${row.dtype}`];
  if (row.device !== "CPU") parts.push(`on ${row.device}`);
  if (row.ranks !== null) parts.push(`on ${counted(row.ranks.count, "rank")}`);
  if (threads && row.device === "CPU") parts.push(`with ${counted(row.threads, "thread")}`);
  return parts.join(" ");
}

const WORKLOADS = DATA.workloads.filter((one) => !one.scaling).sort((a, b) => a.rank - b.rank);
if (!WORKLOADS.length) WORKLOADS.push({ label: "no workload", task: "", options: null, scaling: false, place: -1 });
const DTYPES = [...new Set(DATA.rows.map((row) => row.dtype))].sort();
const time = (text) => Date.parse(text) || 0;

/** The commits that have rows, oldest first, each with its short name. */
const COMMITS = (() => {
  const found = new Map();
  for (const run of DATA.runs) {
    const id = run.commit + (run.dirty ? "+" : "");
    const at = time(run.committed ?? run.measured);
    run.code = id;
    if (!found.has(id)) found.set(id, { id, at, commit: run.commit, isHash: run.isHash, dirty: run.dirty });
    found.get(id).at = Math.min(found.get(id).at, at);
  }
  return [...found.values()].sort((a, b) => a.at - b.at);
})();
const COMMIT = new Map(COMMITS.map((one, order) => [one.id, Object.assign(one, { order })]));
const shortCommit = (one) =>
  (one.isHash ? one.commit.slice(0, 7) : shortened(one.commit || "unknown", 12)) + (one.dirty ? "+" : "");

/** Rows of a workload, from which a view is chosen. */
const BY_WORKLOAD = new Map(WORKLOADS.map((one) => [one, []]));
for (const row of DATA.rows) BY_WORKLOAD.get(row.workload)?.push(row);

/** What of the axes is chosen: null stands for all of it. */
const holds = (chosen, value) => chosen === null || chosen.has(value);

/** Returns the rows that a view shows, results and others. */
function chosenRows(view) {
  return (BY_WORKLOAD.get(view.workload) ?? []).filter(
    (row) =>
      (view.commits === "all" || (view.commits === "latest" ? row.latest : view.commits.has(row.run.code))) &&
      holds(view.dtypes, row.dtype) &&
      holds(view.machines, row.machine.id) &&
      holds(view.backends, row.backend),
  );
}

const _baselines = new Map();

/** Returns the valid rows that may be a row's baseline, oldest first: of as many ranks, or of one process like it. */
function _candidates(row, baseline) {
  const dtype = baseline.dtype ?? row.dtype;
  const key = JSON.stringify([row.machine.place, row.workload.place, baseline.backend, dtype, row.among]);
  if (!_baselines.has(key)) {
    const found = BY_WORKLOAD.get(row.workload) ?? [];
    const same = (one) =>
      one.valid &&
      one.machine === row.machine &&
      one.backend === baseline.backend &&
      one.dtype === dtype &&
      one.among === row.among;
    _baselines.set(
      key,
      found.filter(same).sort((a, b) => time(a.run.measured) - time(b.run.measured)),
    );
  }
  return _baselines.get(key);
}

const sameShape = (one, other) => one.processes.join() === other.processes.join();
const _speedups = new Map();

/** Returns the speedup of a row over a baseline: paired within rounds where both ran in turn, else of medians. */
function speedup(row, baseline) {
  const key = `${row.place} ${baseline.backend} ${baseline.dtype}`;
  if (!_speedups.has(key)) _speedups.set(key, row.valid ? _speedup(row, _candidates(row, baseline)) : null);
  return _speedups.get(key);
}

function _speedup(row, candidates) {
  if (candidates.includes(row)) return { value: 1, low: 1, high: 1, paired: true, over: row };
  const sameRun = candidates.filter((other) => other.run === row.run);
  const partners = sameRun.filter((other) => row.interleaved && other.interleaved && sameShape(other, row));
  const partner = partners.find((other) => other.device === row.device) ?? partners[0];
  if (partner) return { ...pairedRatio(partner, row), paired: true, over: partner };
  for (const others of [sameRun, candidates]) {
    const most = Math.max(...others.map((other) => other.threads));
    const threads = row.device === "CPU" ? row.threads : most;
    const over = others.findLast((other) => other.threads === threads);
    if (over) {
      const value = over.timing.value / row.timing.value;
      return { value, low: null, high: null, paired: false, across: others === candidates, over };
    }
  }
  return null;
}

/** Tells why a speedup has no interval, or "" if it has one. */
function whyUncertain(found) {
  if (found.low !== null) return "";
  if (found.paired) return "too few rounds for an interval";
  return found.across
    ? "of medians of different runs: not paired"
    : "of medians: the two did not run in the same rounds";
}

/** Writes a speedup: a ratio that is not paired has a ≈ before it. */
function speedupText(found) {
  if (found === null) return "";
  const range = found.low !== null && found.low < found.high ? ` (${interval(found.low, found.high, times)})` : "";
  return (found.paired ? "" : "≈ ") + times(found.value) + range;
}

const _limits = new Map();

/** Returns the limit that a row comes nearest to, or null if none was measured. */
function nearest(row) {
  if (!_limits.has(row)) _limits.set(row, _nearest(row));
  return _limits.get(row);
}

function _nearest(row) {
  const found = [];
  if (row.peak !== null)
    found.push({
      value: row.peak,
      of: `the multiply-add peak in ${row.dtype}`,
      most: row.limits?.flops ? quantity(row.limits.flops, "FLOP/s") : null,
      short: "arithmetic",
    });
  if (row.bandwidth !== null)
    found.push({
      value: row.bandwidth,
      of: `the bandwidth of ${row.level}`,
      most: row.limits?.bytes ? quantity(row.limits.bytes, "B/s") : null,
      short: `${row.level}`,
    });
  return found.sort((a, b) => b.value - a.value)[0] ?? null;
}

const timeText = (row) => seconds(row.timing.value);
const timeRange = (row) => interval(row.timing.low, row.timing.high, seconds);
const centreText = (row) =>
  row.processes.length > 1
    ? `geometric mean of the medians of ${row.processes.length} processes`
    : "median of the rounds";

/** Returns the signs that stand beside a row's number: that something disturbed it, and that it skips work. */
const signs = (row) => (row.noisy ? " ⚠" : "") + (row.skips === null ? "" : " †");

/** Returns a warning without its explanation. */
const briefly = (note) => note.split(/ of their| half of|[:;,]/)[0];
const levelText = (level) => percent(Math.floor(Math.round(level * 1e6) / 1e4) / 100, 0);
const roundsText = (row) =>
  counted(row.seconds.length, "round") + (row.processes.length > 1 ? ` in ${row.processes.length} processes` : "");

/** The orders of rows; `falling` ones begin with the largest value, whose sign they turn. */
const SORTS = {
  time: { label: "fastest first", reversed: "slowest first", of: (row) => row.timing?.value ?? Infinity },
  speedup: {
    label: "largest speedup first",
    reversed: "smallest speedup first",
    of: (row, view) => -(speedup(row, view.baseline)?.value ?? 0),
    falling: true,
  },
  limit: {
    label: "nearest to the limit first",
    reversed: "furthest from the limit first",
    of: (row) => -(nearest(row)?.value ?? -1),
    falling: true,
  },
  backend: { label: "backend", reversed: "backend, last first", of: (row) => DATA.backends.indexOf(row.backend) },
  dtype: { label: "dtype", reversed: "dtype, last first", of: (row) => DTYPES.indexOf(row.dtype) },
  measured: {
    label: "measured last first",
    reversed: "measured first first",
    of: (row) => -time(row.run.measured),
    falling: true,
  },
  commit: {
    label: "last commit first",
    reversed: "first commit first",
    of: (row) => -COMMIT.get(row.run.code).order,
    falling: true,
  },
};

/** Returns the rows in the view's order, machine by machine. */
function sorted(rows, view) {
  const sign = view.descending ? -1 : 1;
  const keyed = rows.map((row) => [SORTS[view.sort].of(row, view), row]);
  const compared = ([a, one], [b, other]) =>
    one.machine.place - other.machine.place || sign * (a === b ? 0 : a < b ? -1 : 1) || one.place - other.place;
  return keyed.sort(compared).map(([, row]) => row);
}
