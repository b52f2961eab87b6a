// Before anything is painted: hide what is for readers without JavaScript, and show it if a script fails.
document.documentElement.classList.add("js");
addEventListener("error", () => document.documentElement.classList.remove("js"));
