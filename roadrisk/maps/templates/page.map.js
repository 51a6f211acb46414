const SELECTED = "#0b57a4";
const REACH_PX = 6; // how far from a thin line or a point a click still means it
const hatching = (() => {
  const side = 12;
  const pixels = new Uint8Array(side * side * 4);
  for (let i = 0; i < side * side; i++) {
    const onLine = ((i % side) + Math.floor(i / side)) % side < 3;
    pixels.set(onLine ? [105, 115, 126, 255] : [226, 230, 234, 120], i * 4);
  }
  return { width: side, height: side, data: pixels };
})();

const ground = () => getComputedStyle(document.documentElement).getPropertyValue("--sheet").trim();
const code = ["get", "class"];
const ofKind = (kind) => ["==", ["geometry-type"], kind];
const isScored = [">=", code, 0];
const notScored = ["<", code, 0];

function featureLayers(k, closeZoom) {
  const { legend, geometry } = data.layers[k];
  const colour = ["match", code, ...legend.shades.flatMap((shade, i) => [i, shade.colour]), legend.absent.colour];
  const last = Math.max(1, legend.shades.length - 1);
  const weight = ["interpolate", ["linear"], code, 0, 1.7, last, 0.8];
  const lineWidth = (edge) =>
    ["interpolate", ["exponential", 1.6], ["zoom"], ...[[8, 0.4], [11, 1], [13, 2.2], [17, 7]].flatMap(([zoom, px]) => [zoom, ["+", edge, ["*", px, weight]]])];
  const thin = ["interpolate", ["linear"], ["zoom"], closeZoom - 3, 0, closeZoom - 1, 0.8];
  const common = { source: "features", "source-layer": "features" };
  const kinds = {
    Polygon: [
      { id: "areas", type: "fill", only: isScored, opacity: "fill-opacity",
        paint: { "fill-color": colour, "fill-antialias": false } },
      { id: "edges", type: "line", only: isScored, paint: { "line-color": "#ffffff", "line-opacity": 0.5, "line-width": thin } },
      { id: "absent-areas", type: "fill", only: notScored, paint: { "fill-pattern": "hatching", "fill-antialias": false } },
    ],
    LineString: [
      { id: "absent-lines", type: "line", only: notScored,
        paint: { "line-color": legend.absent.colour, "line-width": ["interpolate", ["linear"], ["zoom"], 8, 0.8, 17, 4], "line-dasharray": [2, 2] } },
      { id: "casing", type: "line", minzoom: 12, only: isScored, opacity: "line-opacity", layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": "#4a5560", "line-width": lineWidth(1.4) } },
      { id: "lines", type: "line", only: isScored, opacity: "line-opacity",
        layout: { "line-cap": "round", "line-join": "round", "line-sort-key": ["-", 0, code] },
        paint: { "line-color": colour, "line-width": lineWidth(0) } },
    ],
    Point: [
      { id: "points", type: "circle", opacity: "circle-opacity", only: true,
        layout: { "circle-sort-key": ["-", 0, code] },
        paint: { "circle-color": ["case", isScored, colour, "#00000000"], "circle-radius": 6, "circle-stroke-width": 1.5,
          "circle-stroke-color": ["case", isScored, "#ffffff", legend.absent.colour] } },
    ],
  };
  return Object.entries(kinds)
    .filter(([kind]) => kind === geometry || geometry === "Mixed")
    .flatMap(([kind, layers]) => layers.map((layer) => ({ ...layer, ...common, kind })));
}

const selectedLayers = [
  { id: "selected-halo", type: "line", source: "selected", filter: ["!=", ["geometry-type"], "Point"],
    layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": "#ffffff", "line-width": 6.5 } },
  { id: "selected", type: "line", source: "selected", filter: ["!=", ["geometry-type"], "Point"],
    layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": SELECTED, "line-width": 3 } },
  { id: "selected-point", type: "circle", source: "selected", filter: ofKind("Point"),
    paint: { "circle-color": "#00000000", "circle-radius": 10, "circle-stroke-color": SELECTED, "circle-stroke-width": 3 } },
];

// one map and the layer that it shows; null shows the picture of the region alone
function mapView(container, shows, camera, heard) {
  const map = new maplibregl.Map({
    container,
    style: { version: 8, sources: {}, layers: [{ id: "ground", type: "background", paint: { "background-color": ground() } }] },
    attributionControl: false,
    dragRotate: false,
    maxPitch: 0,
    renderWorldCopies: false,
    maxZoom: 20,
    fadeDuration: 0,
    ...camera,
  });
  const view = { map, k: shows, layers: [], closeZoom: Math.min(16, map.getZoom() + 3) };
  let loaded = false;

  function draw() {
    for (const { id } of view.layers) map.removeLayer(id);
    if (map.getSource("features")) map.removeSource("features");
    view.layers = view.k === null ? [] : featureLayers(view.k, view.closeZoom);
    if (view.k === null) return;
    const [minzoom, maxzoom] = data.layers[view.k].zooms;
    map.addSource("features", { type: "vector", tiles: [store.tiles(view.k)], minzoom, maxzoom, bounds: data.layers[view.k].bounds });
    for (const { kind, only, opacity, ...layer } of view.layers) map.addLayer(layer, "selected-halo");
    view.filter();
    view.fade();
  }

  view.filter = () => {
    if (!loaded) return;
    for (const { id, kind, only } of view.layers) {
      map.setFilter(id, ["all", ofKind(kind), only, ["in", code, ["literal", shownCodes(view.k)]]]);
    }
  };
  view.fade = () => {
    if (!loaded) return;
    for (const { id, opacity } of view.layers) if (opacity) map.setPaintProperty(id, opacity, Number(found("opacity").value) / 100);
  };
  view.show = (k) => {
    view.k = k;
    if (loaded) draw();
  };
  view.outline = (geometry) => {
    const features = geometry ? [{ type: "Feature", properties: {}, geometry }] : [];
    map.getSource("selected")?.setData({ type: "FeatureCollection", features });
  };
  view.hit = (point) => {
    if (!loaded || view.k === null) return undefined;
    const layers = view.layers.map((layer) => layer.id).filter((id) => id !== "edges");
    const exact = data.layers[view.k].geometry === "Polygon";
    const around = [[point.x - REACH_PX, point.y - REACH_PX], [point.x + REACH_PX, point.y + REACH_PX]];
    return map.queryRenderedFeatures(point, { layers })[0] ?? (exact ? undefined : map.queryRenderedFeatures(around, { layers })[0]);
  };

  map.addControl(new maplibregl.NavigationControl({ showCompass: false }));
  map.addControl(new maplibregl.ScaleControl());
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.on("error", ({ error }) => problem(`The map could not be drawn whole: ${error?.message ?? "unknown error"}.`));
  map.on("load", () => {
    loaded = true;
    map.addImage("hatching", hatching, { pixelRatio: 2 });
    const underlay = store.underlay();
    if (underlay) {
      map.addSource("underlay", underlay);
      map.addLayer({ id: "underlay", type: "raster", source: "underlay", paint: { "raster-fade-duration": 0 } });
    }
    map.addSource("selected", { type: "geojson", data: { type: "FeatureCollection", features: [] } });
    for (const layer of selectedLayers) map.addLayer(layer);
    draw();
    heard.loaded?.(view);
  });
  map.on("click", (event) => heard.clicked(view, view.hit(event.point)));
  map.on("mousemove", (event) => heard.hovered(view, view.hit(event.point), event.originalEvent));
  map.on("mouseout", () => heard.hovered(view, undefined));
  map.on("movestart", () => heard.hovered(view, undefined));
  map.on("move", () => heard.moved(view));
  map.getCanvas().addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const { width, height } = map.getCanvas().getBoundingClientRect();
    heard.clicked(view, view.hit(new maplibregl.Point(width / 2, height / 2)));
  });
  const darkened = () => loaded && map.setPaintProperty("ground", "background-color", ground());
  dark.addEventListener("change", darkened);
  view.remove = () => {
    dark.removeEventListener("change", darkened);
    map.remove();
  };
  return view;
}
