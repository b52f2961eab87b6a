// Under every chart: how it is read, and what would make it wrong.

const MACHINES_DIFFER =
  "Machines differ in more than the processor: versions of libraries, the number of CPUs, what a hypervisor gives. " +
  "A row's details list them. No ratio between machines is shown, since none was measured in pairs.";

const SIGNS =
  "Filled marks are float32, open ones float64. ⚠: its rounds or its processes scatter by more than " +
  `${percent(DATA.noisy, 0)}, or something else disturbed it. †: it skips work whose result is known, such as products ` +
  "with zero pixels.";

const SENTENCES = {
  times: {
    read:
      "Small dots are rounds, those of each process on a line of their own. The large mark is the row's time: the " +
      "median of its rounds, or of several processes the geometric mean of their medians; where processes fall into " +
      `two groups it lies between them. The bar is its interval. ${SIGNS}`,
    wrong:
      "Two rows whose bars are apart may still have swapped places if they were measured on different days: only rows " +
      "of one run shared the machine's mood. A row of one process says little of the next one.",
    key: "Dot: a round. Mark: median, or geometric mean of the processes' medians. Bar: its interval.",
  },
  speedups: {
    read:
      "A bar is the 95% interval of the ratio within rounds that ran both in turn; where it holds 1, the two are not " +
      "told apart. A cross with ≈ is a ratio of times that are not paired, and has no interval; ? says that rounds " +
      "were paired, but too few for one. Filled, open, ⚠ and † are as above.",
    wrong:
      "A baseline that is slower than it needs to be, such as a NumPy whose library does not know the processor, makes " +
      "every speedup larger; and intervals of several rows are not meant to hold all at once.",
    key: "Bar: 95% interval of the ratio within the same rounds. ≈: not paired.",
  },
  limits: {
    read:
      "Each bar reaches to the larger of two shares: of the fastest multiply-adds measured on the machine, and of the " +
      "measured bandwidth of the cache or memory that holds the images. Bars end at 100%, with an arrow and the number " +
      "where the share is larger: a row with † counts work that it skipped, and reading may find its images in a " +
      "nearer cache.",
    wrong:
      "A limit that was measured while something else ran is too low, and the shares too high. Each run knows the " +
      "limits measured before it, so two runs on one machine may differ in them.",
    key: "Bar: the larger share of multiply-adds and of bandwidth. †: counts work that was skipped.",
  },
  machines: {
    read:
      "Marks in one lane are the same backend and dtype, their shape tells the machine; the row measured last on each. " +
      "Bars are the intervals of the times. Filled, open, ⚠ and † are as above.",
    wrong: MACHINES_DIFFER,
    key: "Shape: machine. Bar: interval of the time.",
  },
  machinesByLimit: {
    read:
      "Marks in one lane show how much of its own machine's nearest limit each row reaches. †: counts work that was " +
      "skipped.",
    wrong: MACHINES_DIFFER,
    key: "Shape: machine. Mark: share of the nearest limit. †: counts work that was skipped.",
  },
  history: {
    read:
      "Each mark is the time of one run at a commit, the bar its interval; runs at one commit stand side by side. " +
      "Lines join rows of one backend and dtype on one machine, whatever commits are chosen.",
    wrong:
      "Runs are hours or days apart, and the machine, its neighbours and the libraries change too. A step in all lines " +
      "at once is rarely the code: compare two commits below, where a control tells how much the machine moved.",
    key: "Mark: time of a run. Bar: its interval.",
  },
  scaling: {
    read:
      "Each mark is the time of one iteration at a size; both axes are logarithmic. A line that rises tenfold where " +
      "the size does is one of constant cost for each image or unit.",
    wrong:
      "Each size was measured by itself, not in turn with the others, so a step in one line may be the machine's. Rows " +
      "that are no result are not drawn; they are listed at the end of the page.",
    key: "Mark: time of an iteration. Bar: its interval.",
  },
  scalingThreads: {
    read:
      "Each mark is the time of one iteration with a number of threads; both axes are logarithmic. A line that falls to " +
      "half where the threads double is one that loses nothing.",
    wrong:
      "Each number of threads was measured by itself, so a step in one line may be the machine's. More threads than " +
      "cores share what a core has.",
    key: "Mark: time of an iteration. Bar: its interval.",
  },
};
