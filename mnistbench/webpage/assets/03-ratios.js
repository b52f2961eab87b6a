// Ratios of timings with intervals: the arithmetic of mnistbench/timing/statistics.py and unpaired.py. The quantiles that
// it needs are in the page's data.

const median = (values) => middleOf([...values].sort((a, b) => a - b));

const middleOf = (sorted) => {
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Returns the standard error of the mean of two values or more. */
function standardError(values) {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return Math.sqrt(squares / (values.length * (values.length - 1)));
}

/** Returns the sorted means of all pairs of the logarithms of ratios. */
function walsh(base, other) {
  const logs = base.map((value, i) => Math.log(value / other[i]));
  const found = [];
  for (let i = 0; i < logs.length; i++) for (let j = i; j < logs.length; j++) found.push((logs[i] + logs[j]) / 2);
  return found.sort((a, b) => a - b);
}

/** Returns the rounds of each process of a row. */
function processesOf(row) {
  let start = 0;
  return row.processes.map((count) => row.seconds.slice(start, (start += count)));
}

/** Returns the logarithm of the ratio of two rows in each process. */
const logRatios = (base, other) => {
  const [ours, theirs] = [processesOf(base), processesOf(other)];
  return ours.map((rounds, i) => middleOf(walsh(rounds, theirs[i])));
};

/** Returns the ratio of the base's seconds to the other's, who took turns: its value, and the ends if they are known. */
function pairedRatio(base, other) {
  if (base.processes.length > 1) return studentRatio(logRatios(base, other));
  const averages = walsh(base.seconds, other.seconds);
  const outside = DATA.signedRank[base.seconds.length] ?? 0;
  const value = Math.exp(middleOf(averages));
  if (outside === 0) return { value, low: null, high: null };
  return { value, low: Math.exp(averages[outside - 1]), high: Math.exp(averages[averages.length - outside]) };
}

/** Returns the geometric mean of what has these logarithms, with Student's interval. */
function studentRatio(logarithms) {
  const quantile = DATA.student[logarithms.length - 1];
  const value = Math.exp(mean(logarithms));
  if (quantile === undefined) return { value, low: null, high: null };
  const margin = quantile * standardError(logarithms);
  return { value, low: Math.exp(mean(logarithms) - margin), high: Math.exp(mean(logarithms) + margin) };
}

/** Returns the ratio of two groups of logarithms that were not paired, with an interval of Welch's kind. */
function unpairedRatio(before, after) {
  const value = Math.exp(mean(before) - mean(after));
  const quantile = DATA.student[Math.min(before.length, after.length) - 1];
  if (before.length < 2 || after.length < 2 || quantile === undefined) return { value, low: null, high: null };
  const margin = quantile * Math.hypot(standardError(before), standardError(after));
  return { value, low: value * Math.exp(-margin), high: value * Math.exp(margin) };
}

/** Returns the logarithms of the medians of a row's processes. */
const logMedians = (row) => processesOf(row).map((rounds) => Math.log(median(rounds)));

/** Tells on which side of 1 an interval lies: 1, -1, 0 if it holds 1, null if it is not known. */
function side(ratio) {
  if (ratio.low === null || ratio.high === null) return null;
  return ratio.low > 1 ? 1 : ratio.high < 1 ? -1 : 0;
}
