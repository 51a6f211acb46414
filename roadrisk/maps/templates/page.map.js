const SELECTED = "#0b57a4";
const REACH_PX = 6; // how far from a thin line or a point a click still means it
const hatching = (() => {
  const side = 12;
  const pixels = new Uint8Array(side * side * 4);
  for (let i = 0; i < side * side; i++) {
    const onLine = ((i % side) + Math.floor(i / side)) % side < 3;
    pixels.set(onLine ? [105, 115, 126, 255] : [226, 230, 234, 190], i * 4);
  }
  return { width: side, height: side, data: pixels };
})();

const ground = () => getComputedStyle(document.documentElement).getPropertyValue("--sheet").trim();

const selectedLayers = [
  { id: "selected-halo", type: "line", source: "selected", filter: ["!=", ["geometry-type"], "Point"],
    layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": "#ffffff", "line-width": 6.5 } },
  { id: "selected", type: "line", source: "selected", filter: ["!=", ["geometry-type"], "Point"],
    layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": SELECTED, "line-width": 3 } },
  { id: "selected-point", type: "circle", source: "selected", filter: ["==", ["geometry-type"], "Point"],
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
    view.layers = view.k === null ? [] : data.layers[view.k].style;
    if (view.k === null) return;
    const [minzoom, maxzoom] = data.layers[view.k].zooms;
    map.addSource("features", { type: "vector", tiles: [store.tiles(view.k)], minzoom, maxzoom, bounds: data.layers[view.k].bounds });
    for (const layer of view.layers) map.addLayer({ ...layer, source: "features", "source-layer": "features" }, "selected-halo");
    view.filter();
    view.fade();
  }

  view.filter = () => {
    if (!loaded) return;
    const isShown = ["in", ["get", "class"], ["literal", shownCodes(view.k)]];
    for (const { id, filter } of view.layers) map.setFilter(id, ["all", filter, isShown]);
  };
  view.fade = () => {
    if (!loaded) return;
    const opacity = Number(found("opacity").value) / 100;
    for (const { id, type, metadata } of view.layers) if (metadata?.fades) map.setPaintProperty(id, `${type}-opacity`, opacity);
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
    heard.clicked(view, view.hit(new maplibregl.Point(width / 2, height / 2)), true);
  });
  const darkened = () => loaded && map.setPaintProperty("ground", "background-color", ground());
  dark.addEventListener("change", darkened);
  view.remove = () => {
    dark.removeEventListener("change", darkened);
    map.remove();
  };
  return view;
}
