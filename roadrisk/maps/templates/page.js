"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const found = (id) => document.getElementById(id);
  const column = Object.fromEntries(data.fields.map((field, i) => [field.name, data.columns[i]]));
  const tiles = data.shapes.length;
  const byRank = [...column.rank.keys()]
    .filter((i) => column.rank[i] !== null)
    .sort((a, b) => column.rank[a] - column.rank[b] || a - b);
  const placeInRank = new Map(byRank.map((tile, place) => [tile, place]));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let map = null;
  let selected = null;

  // every text from the data enters the page through here, as text
  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
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
    if (size >= 1) return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : 2 });
    return value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
  }

  function shownField(name, tile) {
    const value = column[name][tile];
    return name === "band" && value !== null ? data.bands[value].name : value;
  }

  function headline(tile) {
    const band = data.bands[column.band[tile]];
    const box = element("div", undefined, "headline");
    if (band) box.style.borderLeftColor = band.colour;
    box.append(element("strong", String(column.tile_id[tile])));
    const rank = column.rank[tile];
    box.append(
      rank === null
        ? "Not scored: its risk is unknown, not low"
        : `${band.name} · rank ${shown(rank)} of ${shown(byRank.length)} scored`,
    );
    return box;
  }

  function factsOf(tile) {
    const list = element("dl");
    for (const { name, unit, meaning } of data.fields) {
      if (name === "tile_id") continue; // the headline has it
      const value = shownField(name, tile);
      const row = element("div");
      row.append(element("dt", name));
      row.append(
        value === null
          ? element("dd", "not known", "unknown")
          : element("dd", unit && typeof value === "number" ? `${shown(value)} ${unit}` : shown(value)),
      );
      row.append(element("small", meaning));
      list.append(row);
    }
    return list;
  }

  function riskiest() {
    const list = element("ol", undefined, "riskiest");
    for (const tile of byRank.slice(0, 10)) {
      const item = element("li");
      const button = element("button");
      button.type = "button";
      button.append(
        element("span", shown(column.rank[tile])),
        element("span", String(column.tile_id[tile])),
        element("span", `${shown(column[data.listed][tile])}${data.listed === "risk" ? "" : ` ${data.listed}`}`),
      );
      button.addEventListener("click", () => select(tile, true));
      item.append(button);
      list.append(item);
    }
    return list;
  }

  function centre(tile) {
    const positions = geometry(tile)?.coordinates.flat(Infinity);
    if (!positions) return null;
    const lng = positions.filter((_, i) => i % 2 === 0);
    const lat = positions.filter((_, i) => i % 2 === 1);
    return [(Math.min(...lng) + Math.max(...lng)) / 2, (Math.min(...lat) + Math.max(...lat)) / 2];
  }

  function select(tile, move) {
    selected = tile;
    found("facts").replaceChildren(headline(tile), factsOf(tile));
    found("facts").firstChild.scrollIntoView({ block: "nearest" });
    found("finder-answer").textContent = "";
    const place = placeInRank.get(tile);
    found("riskier").disabled = place === undefined || place === 0;
    found("safer").disabled = place === undefined || place === byRank.length - 1;
    if (!map) return;
    map.getSource("selected").setData({ type: "FeatureCollection", features: feature(tile) });
    const at = centre(tile);
    if (move && at) map.easeTo({ center: at, zoom: Math.max(map.getZoom(), closeZoom) });
  }

  function step(by) {
    const place = placeInRank.get(selected);
    select(byRank[place === undefined ? 0 : place + by], true);
  }

  function positionsOf(steps) {
    const positions = [];
    let [x, y] = [0, 0];
    for (let i = 0; i < steps.length; i += 2) {
      x += steps[i];
      y += steps[i + 1];
      positions.push([data.origin[0] + x * data.step, data.origin[1] + y * data.step]);
    }
    return positions;
  }

  function geometry(tile) {
    const shape = data.shapes[tile];
    if (shape === null) return null;
    if (typeof shape[0] === "number") return { type: "Point", coordinates: positionsOf(shape)[0] };
    const ring = (steps) => {
      const positions = positionsOf(steps);
      return [...positions, positions[0]];
    };
    return { type: "MultiPolygon", coordinates: shape.map((polygon) => polygon.map(ring)) };
  }

  function feature(tile) {
    const drawn = geometry(tile);
    if (drawn === null) return [];
    return [{ type: "Feature", id: tile, properties: { band: column.band[tile] ?? -1 }, geometry: drawn }];
  }

  function hatching() {
    const side = 12;
    const pixels = new Uint8Array(side * side * 4);
    for (let i = 0; i < side * side; i++) {
      const onLine = ((i % side) + Math.floor(i / side)) % side < 3;
      pixels.set(onLine ? [123, 133, 144, 230] : [123, 133, 144, 40], i * 4);
    }
    return { width: side, height: side, data: pixels };
  }

  const ground = () => getComputedStyle(document.documentElement).getPropertyValue("--sheet").trim();
  const opacity = () => Number(found("opacity").value) / 100;
  const colour = ["match", ["get", "band"], ...data.bands.flatMap((band, i) => [i, band.colour]), "#7b8590"];
  const isScored = [">=", ["get", "band"], 0];
  const isPoint = ["==", ["geometry-type"], "Point"];
  const isArea = ["!=", ["geometry-type"], "Point"];
  const [west, south, east, north] = data.bounds;
  const bounds = [[west, south], [east, north]];
  let closeZoom = 13;

  function layers() {
    const thin = ["interpolate", ["linear"], ["zoom"], closeZoom - 3, 0, closeZoom - 1, 0.8];
    return [
      { id: "tiles", type: "fill", source: "tiles", filter: ["all", isArea, isScored],
        paint: { "fill-color": colour, "fill-opacity": opacity(), "fill-antialias": false } },
      { id: "edges", type: "line", source: "tiles", filter: ["all", isArea, isScored],
        paint: { "line-color": "#ffffff", "line-opacity": 0.5, "line-width": thin } },
      { id: "unscored", type: "fill", source: "tiles", filter: ["all", isArea, ["!", isScored]],
        paint: { "fill-pattern": "hatching", "fill-antialias": false } },
      { id: "points", type: "circle", source: "tiles", filter: isPoint,
        paint: { "circle-color": ["case", isScored, colour, "#00000000"], "circle-radius": 6,
          "circle-opacity": opacity(), "circle-stroke-width": 1.5,
          "circle-stroke-color": ["case", isScored, "#ffffff", "#7b8590"] } },
      { id: "selected-halo", type: "line", source: "selected", filter: isArea,
        paint: { "line-color": "#ffffff", "line-width": 6 } },
      { id: "selected", type: "line", source: "selected", filter: isArea,
        paint: { "line-color": "#0b57a4", "line-width": 3 } },
      { id: "selected-point", type: "circle", source: "selected", filter: isPoint,
        paint: { "circle-color": "#00000000", "circle-radius": 10, "circle-stroke-color": "#0b57a4",
          "circle-stroke-width": 3 } },
    ];
  }

  function drawn() {
    map.addImage("hatching", hatching(), { pixelRatio: 2 });
    if (data.picture) {
      map.addSource("picture", { type: "image", url: data.picture.url, coordinates: data.picture.corners });
      map.addLayer({ id: "picture", type: "raster", source: "picture", paint: { "raster-fade-duration": 0 } });
    }
    const features = [...Array(tiles).keys()].flatMap(feature);
    map.addSource("tiles", { type: "geojson", data: { type: "FeatureCollection", features }, tolerance: 0.1 });
    map.addSource("selected", { type: "geojson", data: { type: "FeatureCollection", features: [] } });
    for (const layer of layers()) map.addLayer(layer);
    if (selected !== null) select(selected, false);
    map.once("idle", () => { document.documentElement.dataset.ready = "1"; });
  }

  function started() {
    const made = new maplibregl.Map({
      container: "map",
      style: { version: 8, sources: {}, layers: [{ id: "ground", type: "background", paint: { "background-color": ground() } }] },
      bounds,
      fitBoundsOptions: { padding: 24, maxZoom: 18 },
      attributionControl: false,
      dragRotate: false,
      maxPitch: 0,
      renderWorldCopies: false,
      maxZoom: 20,
    });
    made.touchZoomRotate.disableRotation();
    made.keyboard.disableRotation();
    made.addControl(new maplibregl.NavigationControl({ showCompass: false }));
    made.addControl(new maplibregl.ScaleControl());
    made.on("error", (event) => problem(`The map could not be drawn: ${event.error?.message ?? "unknown error"}.`));
    return made;
  }

  function listen() {
    const places = ["tiles", "unscored", "points"];
    map.on("load", drawn);
    map.on("click", (event) => {
      const [hit] = map.queryRenderedFeatures(event.point, { layers: places });
      if (hit) select(hit.id, false);
    });
    map.on("mousemove", (event) => {
      const over = map.getLayer("points") && map.queryRenderedFeatures(event.point, { layers: places }).length;
      map.getCanvas().style.cursor = over ? "pointer" : "";
    });
    dark.addEventListener("change", () => map.setPaintProperty("ground", "background-color", ground()));
    found("opacity").addEventListener("input", () => {
      if (!map.getLayer("points")) return;
      map.setPaintProperty("tiles", "fill-opacity", opacity());
      map.setPaintProperty("points", "circle-opacity", opacity());
    });
  }

  found("opacity").addEventListener("input", () => {
    found("opacity-value").textContent = `${found("opacity").value} %`;
  });
  found("riskier").addEventListener("click", () => step(-1));
  found("safer").addEventListener("click", () => step(1));
  found("riskier").disabled = true;
  found("safer").disabled = byRank.length === 0;
  found("facts").append(riskiest());
  found("finder").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = found("wanted").value.trim();
    let tile = column.tile_id.findIndex((name) => String(name) === wanted);
    if (tile < 0) tile = byRank.find((i) => String(column.rank[i]) === wanted.replaceAll(",", "")) ?? -1;
    if (tile < 0) found("finder-answer").textContent = `No tile has the name or rank “${wanted}”.`;
    else select(tile, true);
  });

  try {
    map = started();
  } catch {
    problem("This browser cannot draw the map (it needs WebGL). The bands and the facts of every tile still work here.");
    return;
  }
  window.roadriskMap = map;
  closeZoom = Math.min(16, map.getZoom() + 3);
  listen();
})();
