// the legend, which is also the filter, and the list of the first in rank

const AT_ONCE = 10;
const hiddenCodes = data.layers.map(() => new Set());
const codesOf = (k) => [-1, ...data.layers[k].legend.shades.keys()];
const shownCodes = (k) => codesOf(k).filter((code) => !hiddenCodes[k].has(code));

const NOTHING_LEFT = "Nothing left on the map: all that has a hidden class. Tick one to see it.";

// a class that nothing has shows nothing
function isEmpty(k) {
  const { legend, counts, absent } = data.layers[k];
  return shownCodes(k).every((code) => !(code < 0 ? absent : counts[legend.shades[code].value]));
}

function legendRow(k, code, count, changed) {
  const label = element("label", undefined, "class");
  const box = element("input");
  box.type = "checkbox";
  box.checked = !hiddenCodes[k].has(code);
  box.addEventListener("change", () => {
    if (box.checked) hiddenCodes[k].delete(code);
    else hiddenCodes[k].add(code);
    changed();
  });
  label.append(box, swatch(k, code), element("span", className(k, code)), element("span", shown(count), "number"));
  return label;
}

function legendOf(k, changed) {
  const { legend, counts, absent, count } = data.layers[k];
  const box = element("fieldset", undefined, "legend");
  box.append(element("legend", data.layers.length > 1 ? `${legend.title} – ${layerTitle(k)}` : legend.title));
  const rows = element("div", undefined, "classes");
  rows.append(...legend.shades.map((shade, i) => legendRow(k, i, counts[shade.value], changed)));
  if (absent) rows.append(legendRow(k, -1, absent, changed));
  const all = element("p", undefined, "all");
  all.append(element("span", "all"), element("span", shown(count), "number"));
  box.append(rows, all);
  if (isEmpty(k)) box.append(element("p", NOTHING_LEFT, "none"));
  return box;
}

// ticks stay where the keyboard is
function renewLegends(layers, changed) {
  const focused = [...found("legends").querySelectorAll("input[type=checkbox]")].indexOf(document.activeElement);
  const faded = found("opacity-line");
  found("legends").replaceChildren(...layers.map((k) => legendOf(k, changed)), faded);
  found("legends").querySelectorAll("input[type=checkbox]")[focused]?.focus();
  if (layers.some(isEmpty)) found("said").textContent = NOTHING_LEFT;
}

function riskiestItem(k, entry, pressed) {
  const { listed, fields } = data.layers[k];
  const field = fields.find(({ name }) => name === listed);
  const unit = field?.unit ?? "";
  const item = element("li");
  const made = button(undefined, pressed);
  const value = entry.value === null ? "" : withUnit(entry.value, unit);
  made.tabIndex = -1;
  // the class is a colour to the eye only
  made.setAttribute("aria-label", `Rank ${shown(entry.rank)}: ${entry.tile_id}, ${className(k, entry.class)}, ${shortAlias(field ?? { alias: listed })} ${value}`);
  made.append(
    element("span", shown(entry.rank), "number"),
    swatch(k, entry.class),
    element("span", entry.tile_id, "name"),
    element("span", listed === "risk" || unit ? value : `${value} ${shortAlias(field)}`, "number"),
  );
  item.append(made);
  return item;
}

// one stop of the tab key; arrows walk through the list
function walk(event) {
  const buttons = [...found("riskiest").querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
}

function rove(target) {
  for (const made of found("riskiest").querySelectorAll("button")) made.tabIndex = made === target ? 0 : -1;
}

async function lengthenList(k, choose) {
  const list = found("riskiest");
  const first = list.children.length;
  const entries = await store.top(k, first, AT_ONCE);
  if (list.children.length !== first || list.dataset.layer !== String(k)) return;
  list.append(...entries.map((entry) => riskiestItem(k, entry, () => choose(k, entry.row))));
  if (first === 0 && list.firstChild) rove(list.querySelector("button"));
  found("more").hidden = list.children.length >= data.layers[k].ranked;
}
