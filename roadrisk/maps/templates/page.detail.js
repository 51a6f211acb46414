// everything that is known of one feature

const MOST_REASONS = 8;
const interval = (values, name) => [values[`${name}_low`], values[`${name}_high`]];
const hasInterval = (values, name) => interval(values, name).every((end) => typeof end === "number");

const endsOf = (k, { name }) => data.layers[k].fields.filter((field) => field.name === `${name}_low` || field.name === `${name}_high`);

function intervalText(values, name) {
  if (!hasInterval(values, name)) return "";
  const [low, high] = interval(values, name).map(shown);
  return ` (${low} to ${high})`;
}

const valueText = (values, field) => withUnit(values[field.name], field.unit) + intervalText(values, field.name);

function headline(k, values, row) {
  const layer = data.layers[k];
  const code = codeOf(k, values);
  const box = element("div", undefined, "headline");
  const words = element("div");
  words.append(element("strong", String(values[layer.named] ?? row)));
  const rank = values.rank;
  const standing = typeof rank === "number" ? ` · rank ${shown(rank)}${amongText(k)}` : "";
  words.append(
    element("span", code < 0 ? `${capital(layer.legend.absent.label)}: unknown, not low` : capital(className(k, code)) + standing),
  );
  if (data.layers.length > 1) words.append(element("small", layerTitle(k)));
  box.append(swatch(k, code), words);
  return box;
}

// the picture of a tile, one view at a time
function pictures(k, row, { pictures: views }) {
  if (!views.length) return [];
  const figure = element("figure");
  const image = element("img");
  const choices = element("div", undefined, "choices");
  const show = (view) => {
    image.src = store.picture(k, view, row);
    image.alt = `Picture of the tile: ${view}`;
    for (const choice of choices.children) choice.setAttribute("aria-pressed", String(choice.textContent === view));
  };
  choices.append(...views.map((view) => button(view, () => show(view))));
  show(views[0]);
  figure.append(image);
  if (views.length > 1) figure.append(choices);
  return [figure];
}

function noPicture(k, values) {
  const { pictured } = data.layers[k];
  if (!pictured || values.has_image === false) return [];
  return [element("p", `This file holds the pictures of the ${shown(pictured)} first in rank; “roadrisk view” shows all.`, "quiet")];
}

// a number between 0 and 1 with its interval, on a line
function scale(values, name) {
  const value = values[name];
  if (typeof value !== "number" || value < 0 || value > 1) return [];
  const line = element("div", undefined, "scale");
  line.setAttribute("aria-hidden", "true");
  if (hasInterval(values, name)) {
    const [low, high] = interval(values, name);
    const range = element("span", undefined, "range");
    range.style.left = `${100 * low}%`;
    range.style.width = `${100 * (high - low)}%`;
    line.append(range);
  }
  const dot = element("span", undefined, "dot");
  dot.style.left = `${100 * value}%`;
  line.append(dot);
  return [line];
}

function largest(k, values) {
  const field = data.layers[k].fields.find(({ name }) => name === data.layers[k].listed);
  if (!field || typeof values[field.name] !== "number") return [];
  const box = element("div", undefined, "largest");
  const meaning = element("details");
  meaning.append(element("summary", "What this says"), element("small", [field, ...endsOf(k, field)].map((told) => told.meaning).join(" ")));
  const number = element("p");
  number.append(element("strong", withUnit(values[field.name], field.unit)), intervalText(values, field.name));
  box.append(element("span", shortAlias(field)), number, ...scale(values, field.name), meaning);
  return [box];
}

function reasonName(k, name) {
  const about = name.slice("reason_".length);
  return data.layers[k].fields.find((field) => field.name === about)?.alias ?? capital(about.replaceAll("_", " "));
}

function reasonBar(label, value, most) {
  const item = element("li");
  const track = element("span", undefined, "track");
  track.setAttribute("aria-hidden", "true");
  const bar = element("span", undefined, value < 0 ? "lowers" : "raises");
  bar.style.width = `${(50 * Math.abs(value)) / most}%`;
  track.append(bar);
  item.append(element("span", label), track, element("span", `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)}`, "number"));
  return item;
}

function reasons(k, values) {
  const totals = ["reason_picture", "reason_facts"];
  const numbers = Object.entries(values).filter(([name, value]) => name.startsWith("reason_") && typeof value === "number");
  if (!values.why && !numbers.length) return [];
  const box = element("section", undefined, "reasons");
  box.append(element("h3", "Why"));
  if (values.why) box.append(element("p", values.why));
  const most = Math.max(1e-9, ...numbers.map(([, value]) => Math.abs(value)));
  const parts = numbers.filter(([name, value]) => !totals.includes(name) && value !== 0);
  parts.sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const groups = [numbers.filter(([name]) => totals.includes(name)), parts.slice(0, MOST_REASONS)];
  for (const group of groups.filter((some) => some.length)) {
    const list = element("ul", undefined, "bars");
    list.append(...group.map(([name, value]) => reasonBar(reasonName(k, name), value, most)));
    box.append(list);
  }
  if (parts.length > MOST_REASONS) box.append(element("small", `and ${parts.length - MOST_REASONS} smaller ones`));
  const unit = data.layers[k].fields.find(({ name }) => name === numbers[0]?.[0])?.unit;
  box.append(element("small", `${unit ? `In ${unit}, against a typical tile. ` : ""}These are associations, not causes.`));
  return [box];
}

function factRow(values, field, ends) {
  const row = element("div");
  const value = values[field.name];
  row.append(element("dt", shortAlias(field)));
  row.append(value === null ? element("dd", "not known", "unknown") : element("dd", valueText(values, field)));
  const words = element("small", `${[field.meaning, ...ends.map((end) => end.meaning)].join(" ")} `);
  words.append(element("code", field.name));
  row.append(words);
  return row;
}

// fields under the words they belong to: what the map says, and what it was told
function factLists(k, values) {
  const { fields, named, listed } = data.layers[k];
  const isEnd = ({ name }) => fields.some((field) => hasInterval(values, field.name) && endsOf(k, field).some((end) => end.name === name));
  const above = new Set([named, "why", ...(typeof values[listed] === "number" ? [listed] : [])]);
  const told = fields.filter((field) => !above.has(field.name) && !field.name.startsWith("reason_") && !isEnd(field));
  const groups = [
    ["Score", told.filter(({ role }) => role !== "feature" && role !== "exposure")],
    ["Facts", told.filter(({ role }) => role === "feature" || role === "exposure")],
  ];
  return groups
    .filter(([, some]) => some.length)
    .flatMap(([title, some]) => {
      const list = element("dl");
      list.append(...some.map((field) => factRow(values, field, hasInterval(values, field.name) ? endsOf(k, field) : [])));
      return [element("h3", title), list];
    });
}

function detail(k, i, row) {
  const values = valuesByName(k, row);
  const seen = pictures(k, i, row);
  return [headline(k, values, i), ...(seen.length ? seen : noPicture(k, values)), ...largest(k, values), ...reasons(k, values), ...factLists(k, values)];
}
