const data = JSON.parse(document.getElementById("data").textContent);
const found = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

// every text from the data enters the page through here, as text
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function button(text, pressed, className) {
  const made = element("button", text, className);
  made.type = "button";
  made.addEventListener("click", pressed);
  return made;
}

function problem(text) {
  found("problem").textContent = text;
  found("problem").hidden = false;
}

function shown(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1) return value.toLocaleString("en", { minimumFractionDigits: size >= 100 ? 0 : 2, maximumFractionDigits: size >= 100 ? 0 : 2 });
  return value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
}

const withUnit = (value, unit) => (unit && typeof value === "number" ? `${shown(value)} ${unit}` : shown(value));
// without the unit, where the value says it
const shortAlias = ({ alias, unit }) => (unit && alias.endsWith(` (${unit})`) ? alias.slice(0, -unit.length - 3) : alias);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// around all layers
function wholeBox() {
  const edges = data.layers.map((layer) => layer.bounds);
  return [0, 1, 2, 3].map((side) => (side < 2 ? Math.min : Math.max)(...edges.map((bounds) => bounds[side])));
}

// how many a rank is among, where that is told
const amongText = (k) => (data.layers[k].ranked_in_all ? ` of ${shown(data.layers[k].ranked_in_all)}` : "");

// the layers' titles, told apart where they are the same
function layerTitle(k) {
  const same = data.layers.filter((layer) => layer.title === data.layers[k].title);
  if (same.length < 2) return data.layers[k].title;
  const kinds = new Set(same.map((layer) => layer.legend.title));
  return kinds.size === same.length ? data.layers[k].legend.title : `${k + 1}: ${data.layers[k].title}`;
}

function className(k, code) {
  const { shades, absent } = data.layers[k].legend;
  return code < 0 ? absent.label : shades[code].value;
}

function classColour(k, code) {
  const { shades, absent } = data.layers[k].legend;
  return code < 0 ? absent.colour : shades[code].colour;
}

function swatch(k, code) {
  const made = element("span", undefined, code < 0 ? "swatch hatched" : "swatch");
  made.setAttribute("aria-hidden", "true");
  if (code >= 0) made.style.background = classColour(k, code);
  return made;
}

// what a row says of itself, by the name of the field
function valuesByName(k, row) {
  return Object.fromEntries(data.layers[k].fields.map((field, i) => [field.name, row.values[i]]));
}

function codeOf(k, values) {
  const { field, shades } = data.layers[k].legend;
  return shades.findIndex((shade) => shade.value === values[field]);
}
