// Before anything is painted: hide what is for readers without JavaScript, and show it in place of the rest whenever a
// script fails.
document.documentElement.classList.add("js");
for (const failure of ["error", "unhandledrejection"])
  addEventListener(failure, () => document.documentElement.classList.remove("js"));
