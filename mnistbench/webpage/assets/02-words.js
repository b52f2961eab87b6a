// Numbers in words, as mnistbench/words.py writes them.

const PREFIXES = [
  ["P", 1e15],
  ["T", 1e12],
  ["G", 1e9],
  ["M", 1e6],
  ["k", 1e3],
  ["", 1],
  ["m", 1e-3],
  ["µ", 1e-6],
];
const _formats = new Map();

function _fixed(value, decimals) {
  if (!_formats.has(decimals)) {
    const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    _formats.set(decimals, new Intl.NumberFormat("en-US", digits));
  }
  return _formats.get(decimals).format(value);
}

const _rounded = (value, digits) => Number(value.toExponential(digits - 1));

function significant(value, digits = 3) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const rounded = _rounded(value, digits);
  return _fixed(rounded, Math.min(20, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(rounded))))));
}

function quantity(value, unit, digits = 3) {
  if (value === 0 || !Number.isFinite(value)) return `${value} ${unit}`;
  const rounded = Math.abs(_rounded(value, digits));
  const [prefix, size] = PREFIXES.find(([, least]) => rounded >= least) ?? ["n", 1e-9];
  return `${significant(value / size, digits)} ${prefix}${unit}`;
}

const seconds = (value, digits = 3) =>
  _rounded(value, digits) < 1000 ? quantity(value, "s", digits) : `${significant(value, digits)} s`;

function times(ratio, digits = 3) {
  if (!Number.isFinite(ratio)) return "∞×";
  return `${ratio === 0 || (ratio >= 1e-3 && ratio < 1e5) ? significant(ratio, digits) : scientific(ratio)}×`;
}

function scientific(value) {
  const [mantissa, exponent] = value.toExponential(1).split("e");
  const power = `10${[...String(Number(exponent))].map((one) => SUPERSCRIPTS[one]).join("")}`;
  return Number(mantissa) === 1 ? power : `${mantissa}×${power}`;
}

const SUPERSCRIPTS = Object.fromEntries([..."-0123456789"].map((one, i) => [one, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"[i]]));

const percent = (share, decimals = 1) => `${_fixed(100 * share, decimals)}%`;

/** Writes a share of a limit, with decimals for small ones: 107%, 4.1%, 0.06%. */
const share = (value) => (value >= 0.1 ? percent(value, 0) : `${significant(100 * value, 2)}%`);

const whole = (number) => _fixed(number, 0);

const counted = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;

const interval = (low, high, write) => `${write(low)} to ${write(high)}`;

const day = (date) => date.slice(0, 10);

/** Returns the text, without its middle if it is longer than most. */
function shortened(text, most) {
  if (text.length <= most) return text;
  const kept = Math.max(2, most - 1);
  return text.slice(0, Math.ceil(kept / 2)) + "…" + text.slice(text.length - Math.floor(kept / 2));
}
