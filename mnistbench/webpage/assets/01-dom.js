// Elements of the page. Texts are set as text; nothing is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Fills an element: attributes by name, functions as listeners of events, then texts and elements inside. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false)
      element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Makes an HTML element. */
const html = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** Makes an SVG element. */
const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Returns the page's element with an id. */
const byId = (id) => document.getElementById(id);

/** Says something to who sees the page and to who hears it. */
function say(text) {
  byId("status").textContent = text;
}
