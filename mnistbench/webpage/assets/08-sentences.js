// Under every chart: how it is read, and what would make it wrong.

const MACHINES_DIFFER =
  "Machines differ in more than the processor: versions of libraries, the number of CPUs, what a hypervisor gives. " +
  "A row's details list them. No ratio between machines is shown, since none was measured in pairs.";

const SENTENCES = {
  times: {
    read:
      "A large mark is the median of a row's rounds, the bar its interval, and each small dot one round. " +
      `⚠ says that the rounds scatter by more than ${percent(DATA.noisy, 0)} of their median. ` +
      "Filled circles are float32, open diamonds float64.",
    wrong:
      "Two rows whose bars are apart may still have swapped places if they were measured on different days: only rows " +
      "of one run shared the machine's mood. A row of one process says little of the next one.",
  },
  speedups: {
    read:
      "A bar is the 95% interval of the ratio within rounds that ran both in turn; where it holds 1, the two are not " +
      "told apart. A cross with ≈ is a ratio of medians that are not paired, and has no interval; ? says that rounds " +
      "were paired, but too few for one.",
    wrong:
      "A baseline that is slower than it needs to be, such as a NumPy whose library does not know the processor, makes " +
      "every speedup larger; and intervals of several rows are not meant to hold all at once.",
  },
  limits: {
    read:
      "Each bar reaches to the larger of two shares: of the fastest multiply-adds measured on the machine, and of the " +
      "measured bandwidth of the memory that holds the images. † and an open mark: the row skips work whose result is " +
      "known, and counts it all the same, so its share may pass 100%.",
    wrong:
      "A limit that was measured while something else ran is too low, and the shares too high. Each run knows the " +
      "limits measured before it, so two runs on one machine may differ in them.",
  },
  machines: {
    read:
      "Marks in one lane are the same backend and dtype on different machines, the row measured last on each; bars are " +
      "the intervals of the medians.",
    wrong: MACHINES_DIFFER,
  },
  machinesByLimit: {
    read:
      "Marks in one lane show how much of its own machine's nearest limit each row reaches; † counts work that was " +
      "skipped.",
    wrong: MACHINES_DIFFER,
  },
  history: {
    read:
      "Each mark is the median of one run at a commit, the bar its interval; runs at one commit stand side by side. " +
      "Lines join rows of one backend and dtype on one machine, whatever commits are chosen.",
    wrong:
      "Runs are hours or days apart, and the machine, its neighbours and the libraries change too. A step in all lines " +
      "at once is rarely the code: compare two commits below, where a control tells how much the machine moved.",
  },
  scaling: {
    read:
      "Each mark is the median time of one iteration at a size; both axes are logarithmic, so that a line that rises " +
      "as steeply as the size is one of constant cost for each image or unit.",
    wrong:
      "Each size was measured by itself, not in turn with the others, so a step in one line may be the machine's. Rows " +
      "that are no result are not drawn; they are listed at the end of the page.",
  },
};
