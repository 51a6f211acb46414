const state = { left: 0, selected: null, asked: 0 };
const views = [];
let following = false;

const shownLayers = () => [...new Set(views.map((view) => view.k).filter((k) => k !== null))];
const selection = () => state.selected;

const whole = { bounds: wholeBox(), fitBoundsOptions: { padding: 24, maxZoom: 18 } };

function refresh() {
  renewLegends(shownLayers(), refresh);
  for (const view of views) view.filter();
}

// a feature takes at most a third of the map, and is never shown smaller than it was
function go(centre, geometry) {
  const [view] = views;
  if (!view) return;
  const now = view.map.getZoom();
  const [west, south, east, north] = geometry ? boxOf(geometry) : [...centre, ...centre];
  const { zoom: filling } = view.map.cameraForBounds([[west, south], [east, north]], { maxZoom: 19 });
  const zoom = Math.max(Math.min(17, filling - 1.6), Math.min(now, filling - 0.4));
  view.map.easeTo({ center: centre, zoom, animate: !calm.matches });
}

function stepping(k, place) {
  const { ranked } = data.layers[k];
  found("previous").disabled = place === null || place <= 0;
  found("next").disabled = place === null || place >= ranked - 1;
}

async function select(k, i, move) {
  const asked = ++state.asked;
  const row = await store.row(k, i);
  const values = valuesByName(k, row);
  if (asked !== state.asked) return;
  state.selected = { k, row: i, place: row.place, geometry: row.geometry };
  found("facts").replaceChildren(...detail(k, i, row));
  found("selection").hidden = false;
  found("finder-answer").textContent = "";
  found("said").textContent = `Selected ${values[data.layers[k].named]}, ${className(k, codeOf(k, values))}`;
  found("facts").firstChild.scrollIntoView({ block: "nearest" });
  stepping(k, row.place);
  for (const view of views) view.outline(row.geometry);
  if (move && row.centre) go(row.centre, row.geometry);
}

function deselect() {
  state.asked++;
  state.selected = null;
  const inside = found("selection").contains(document.activeElement);
  found("selection").hidden = true;
  for (const view of views) view.outline(null);
  if (inside) found("wanted").focus();
}

async function step(by) {
  const { k, place } = state.selected;
  const [next] = await store.top(k, place + by, 1);
  if (next) select(k, next.row, true);
}

async function find(text) {
  const answer = await store.find(state.left, text);
  if (answer.row !== null) select(state.left, answer.row, true);
  else if (answer.point) {
    go(answer.point, null);
    const reach = data.layers[state.left].reach_m;
    const where = reach ? `within ${reach} m of there` : "there";
    found("finder-answer").textContent = `Nothing of this layer lies ${where}; the map shows the place.`;
  } else found("finder-answer").textContent = `Nothing here has the name, the rank or the place “${text}”.`;
}

const card = { shown: null };

async function hovered(view, hit, pointer) {
  const hover = found("hover");
  const key = hit ? `${view.k} ${hit.id}` : null;
  view.map.getCanvas().style.cursor = hit ? "pointer" : "";
  if (hit && pointer) {
    const frame = found("maps").getBoundingClientRect();
    const [x, y] = [pointer.clientX - frame.left, pointer.clientY - frame.top];
    const left = x + 230 > frame.width ? x - 226 : x + 16;
    hover.style.transform = `translate(${Math.max(4, left)}px, ${Math.min(y + 16, frame.height - 96)}px)`;
  }
  if (key === card.shown) return;
  card.shown = key;
  if (!hit) hover.hidden = true;
  else {
    const row = await store.row(view.k, hit.id).catch(() => null);
    if (!row || card.shown !== key) return;
    const { listed, named, fields } = data.layers[view.k];
    const values = valuesByName(view.k, row);
    const code = codeOf(view.k, values);
    const top = element("div");
    top.append(swatch(view.k, code), element("span", capital(className(view.k, code))));
    const field = fields.find(({ name }) => name === listed);
    const rank = typeof values.rank === "number" ? `rank ${shown(values.rank)}` : null;
    const value = typeof values[listed] === "number" ? `${shortAlias(field)} ${valueText(values, field)}` : null;
    hover.replaceChildren(element("strong", String(values[named])), top, element("small", [rank, value].filter(Boolean).join(" · ")));
    hover.hidden = false;
  }
}

const heard = {
  clicked: (view, hit, byKey) => {
    found("hover").hidden = true; // a finger leaves it there; the panel says more
    if (hit) select(view.k, hit.id, false);
    else if (byKey) found("said").textContent = "Nothing lies in the middle of the map";
  },
  hovered,
  loaded: (view) => {
    view.outline(state.selected?.geometry ?? null);
    const canvas = view.map.getCanvas();
    canvas.setAttribute("aria-label", view === views[0] ? "Map" : "Map beside it");
    canvas.setAttribute("aria-describedby", "keys");
    view.map.once("idle", () => {
      document.documentElement.dataset.ready = String(views.length);
    });
  },
  moved: (view) => {
    const other = views.find((some) => some !== view);
    if (following || !other) return;
    following = true;
    other.map.jumpTo({ center: view.map.getCenter(), zoom: view.map.getZoom() });
    following = false;
  },
};

// "picture" is the picture of the region without a layer
const layerOf = (choice) => (choice === "picture" ? null : Number(choice));
const hasUnderlay = data.mode === "served" ? data.views.length > 0 : data.underlay !== null;

function compare(on) {
  const [left] = views;
  const far = left.map.getZoom() < left.closeZoom - 2 && !state.selected;
  found("compare").setAttribute("aria-pressed", String(on));
  found("right-label").hidden = !on || found("right").options.length < 2;
  found("map-right").hidden = !on;
  found("maps").classList.toggle("two", on);
  left.map.resize();
  if (far) left.map.fitBounds(whole.bounds, { ...whole.fitBoundsOptions, animate: false });
  if (on) {
    const camera = { center: left.map.getCenter(), zoom: left.map.getZoom() };
    views.push(mapView("map-right", layerOf(found("right").value), camera, heard));
    views[1].closeZoom = left.closeZoom;
  } else views.pop().remove();
  refresh();
}

function heldPictures() {
  const told = data.layers.flatMap(({ pictured }, k) =>
    pictured ? [`the ${shown(pictured)} first in rank${data.layers.length > 1 ? ` of ${layerTitle(k)}` : ""}`] : [],
  );
  return told.length ? `This file holds the pictures of ${told.join(", ")}.` : "";
}

function choices() {
  const layers = data.layers.map((_, k) => [String(k), layerTitle(k)]);
  const fill = (id, some) => {
    for (const [value, title] of some) {
      const option = element("option", title);
      option.value = value;
      found(id).append(option);
    }
  };
  fill("left", layers);
  fill("right", hasUnderlay ? [...layers, ["picture", "The picture alone"]] : layers);
  found("right").value = layers.length > 1 ? "1" : hasUnderlay ? "picture" : "0";
  found("left-label").hidden = layers.length < 2;
  found("compare").hidden = found("right").options.length < 2;
}

const lengthen = () => lengthenList(state.left, (k, row) => select(k, row, true));

function renewList() {
  found("riskiest").replaceChildren();
  found("riskiest").dataset.layer = String(state.left);
  found("list-title").textContent = data.layers.length > 1 ? `First in rank – ${layerTitle(state.left)}` : "First in rank";
  return lengthen();
}

function listen() {
  found("compare").addEventListener("click", () => compare(views.length < 2));
  found("left").addEventListener("change", () => {
    state.left = layerOf(found("left").value);
    views[0]?.show(state.left);
    refresh();
    renewList();
  });
  found("right").addEventListener("change", () => {
    views[1]?.show(layerOf(found("right").value));
    refresh();
  });
  found("opacity").addEventListener("input", () => {
    found("opacity-value").textContent = `${found("opacity").value} %`;
    for (const view of views) view.fade();
  });
  found("previous").addEventListener("click", () => step(-1));
  found("next").addEventListener("click", () => step(1));
  found("close").addEventListener("click", deselect);
  found("more").addEventListener("click", lengthen);
  found("riskiest").addEventListener("keydown", walk);
  found("riskiest").addEventListener("focusin", (event) => rove(event.target));
  window.addEventListener("unhandledrejection", ({ reason }) => problem(`Something could not be read: ${reason?.message ?? reason}.`));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.selected) deselect();
  });
  found("finder").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = found("wanted").value.trim();
    if (text) find(text);
  });
}

function start() {
  choices();
  listen();
  renewLegends([0], refresh);
  // nothing to look through to
  if (!hasUnderlay) found("opacity").value = 100;
  found("opacity").dispatchEvent(new Event("input"));
  found("pictured").textContent = heldPictures();
  try {
    views.push(mapView("map", 0, whole, heard));
    window.roadriskMap = views[0].map;
    window.roadriskViews = views;
  } catch {
    problem("This browser cannot draw the map (it needs WebGL). The legend and the facts still work here.");
    found("compare").hidden = true;
  }
  renewList();
}

start();
