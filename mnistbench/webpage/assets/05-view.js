// The view: what is chosen, and the part of the address after # that holds it.

const DEFAULT_BASELINE = (() => {
  const backend = DATA.backends.includes("numpy") ? "numpy" : DATA.backends[0];
  return { backend, dtype: null };
})();

/** The choice of no case whose commits are compared. */
const NO_PICK = { pick: null, before: null, after: null };

/** Returns the view that a page opens with. */
const firstView = () => ({
  workload: WORKLOADS[0],
  dtypes: null,
  machines: null,
  backends: null,
  commits: "latest",
  baseline: DEFAULT_BASELINE,
  sort: "time",
  descending: false,
  rounds: true,
  measure: "time",
  ...NO_PICK, // the case of the history whose commits are compared, and the two runs
  axis: null, // the axis of the scaling, and the machine
  scalingMachine: null,
});

let VIEW = firstView();

const baselineName = (baseline) => baseline.backend + (baseline.dtype === null ? "" : ` ${baseline.dtype}`);

/** Returns what no other baseline has, whatever the names of backends are. */
const baselineKey = (baseline) => JSON.stringify([baseline.backend, baseline.dtype]);

/** The baselines to choose from: each backend in a row's own dtype, and in a certain one. */
const BASELINES = [
  ...DATA.backends.map((backend) => ({ backend, dtype: null })),
  ...DATA.backends.flatMap((backend) => DTYPES.map((dtype) => ({ backend, dtype }))),
].filter(
  ({ backend, dtype }) => dtype === null || DATA.rows.some((row) => row.backend === backend && row.dtype === dtype),
);

/** Choices that are a text, or null for what is chosen at first. One that names nothing counts as null. */
const PLAIN = ["pick", "before", "after", "axis", "scalingMachine"];

/** Writes a view as the part of an address after #; what is as at first is left out. */
function asFragment(view) {
  const found = new URLSearchParams();
  found.set("workload", view.workload?.label ?? "");
  for (const [name, chosen] of [
    ["dtype", view.dtypes],
    ["machine", view.machines],
    ["backend", view.backends],
  ]) {
    if (chosen !== null) for (const value of chosen.size ? chosen : [""]) found.append(name, value);
  }
  if (view.commits === "all" || view.commits.size === COMMITS.length) found.set("commit", "all");
  else if (view.commits !== "latest")
    for (const id of view.commits.size ? view.commits : [""]) found.append("commit", id);
  if (baselineKey(view.baseline) !== baselineKey(DEFAULT_BASELINE)) found.set("baseline", baselineKey(view.baseline));
  if (view.sort !== "time" || view.descending) found.set("sort", (view.descending ? "-" : "") + view.sort);
  if (!view.rounds) found.set("rounds", "hidden");
  if (view.measure !== "time") found.set("measure", view.measure);
  for (const name of PLAIN) if (view[name] !== null) found.set(name, view[name]);
  return `#${found}`;
}

/** Reads a view from the part of an address after #; what names nothing of this page is left out. */
function fromFragment(fragment) {
  const view = firstView();
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const known = (name, values) => {
    const wanted = given.getAll(name);
    return wanted.length ? new Set(wanted.filter((value) => values.includes(value))) : null;
  };
  view.workload = WORKLOADS.find((one) => one.label === given.get("workload")) ?? view.workload;
  view.dtypes = known("dtype", DTYPES);
  view.machines = known(
    "machine",
    DATA.machines.map((one) => one.id),
  );
  view.backends = known("backend", DATA.backends);
  if (given.get("commit") === "all") view.commits = "all";
  else
    view.commits =
      known(
        "commit",
        COMMITS.map((one) => one.id),
      ) ?? "latest";
  view.baseline = BASELINES.find((one) => baselineKey(one) === given.get("baseline")) ?? view.baseline;
  const sort = given.get("sort") ?? "";
  if (Object.hasOwn(SORTS, sort.replace(/^-/, ""))) {
    view.sort = sort.replace(/^-/, "");
    view.descending = sort.startsWith("-");
  }
  view.rounds = given.get("rounds") !== "hidden";
  if (given.get("measure") === "limit") view.measure = "limit";
  for (const name of PLAIN) view[name] = given.get(name);
  return view;
}

/** Tells a view in words. */
function viewText(view) {
  const these = (chosen, all) => (chosen === null ? "all" : [...chosen].map(all).join(", ") || "none");
  const same = (name) => name;
  const commits =
    view.commits === "latest"
      ? "the latest row of each case"
      : view.commits === "all"
        ? "all"
        : these(view.commits, (id) => shortCommit(COMMIT.get(id)));
  return (
    `Workload: ${view.workload.label}. Backends: ${these(view.backends, same)}. Dtypes: ${these(view.dtypes, same)}. ` +
    `Machines: ${these(view.machines, (id) => DATA.machines.find((one) => one.id === id).label)}. ` +
    `Commits: ${commits}. Baseline: ${baselineText(view.baseline)}. Order: ${SORTS[view.sort][view.descending ? "reversed" : "label"]}.`
  );
}

const baselineText = (baseline) =>
  baseline.dtype === null ? `${baseline.backend}, in each row's dtype` : baselineName(baseline);
