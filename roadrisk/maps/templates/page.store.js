// the operations of a store: tiles(k), row(k, i), top(k, first, many), find(k, text), picture(k, view, i), underlay()

function numbersOf(text) {
  const parts = /^\s*([-+]?\d+(?:\.\d+)?)°?\s*[,; ]\s*([-+]?\d+(?:\.\d+)?)°?\s*$/.exec(text);
  return parts && [Number(parts[1]), Number(parts[2])];
}

const DEGREE_M = 111320; // of latitude
const metresOfLng = (lat) => DEGREE_M * Math.max(Math.cos((lat * Math.PI) / 180), 0.01);

// in a box, or as near to it as a place may lie to mean something
function isNear([west, south, east, north], [lng, lat], reach) {
  const [wide, high] = [reach / metresOfLng(lat), reach / DEGREE_M];
  return lng >= west - wide && lng <= east + wide && lat >= south - high && lat <= north + high;
}

function pointIn({ bounds, reach_m: reach }, text) {
  const pair = numbersOf(text);
  return pair && [pair, [pair[1], pair[0]]].find((point) => isNear(bounds, point, reach));
}

function rankIn(text) {
  return /^\d{1,3}(,\d{3})+$|^\d+$/.test(text) ? Number(text.replaceAll(",", "")) : null;
}

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// from whole steps, each relative to the one before it
function geometryOf(shape, { origin, step }) {
  if (shape === null) return null;
  const line = (steps) => {
    const positions = [];
    let [x, y] = [0, 0];
    for (let i = 0; i < steps.length; i += 2) {
      x += steps[i];
      y += steps[i + 1];
      positions.push([origin[0] + x * step, origin[1] + y * step]);
    }
    return positions;
  };
  const ring = (steps) => {
    const positions = line(steps);
    return [...positions, positions[0]];
  };
  const [kind, ...parts] = shape;
  if (kind === "Point") return { type: "MultiPoint", coordinates: parts.map((part) => line(part)[0]) };
  if (kind === "LineString") return { type: "MultiLineString", coordinates: parts.map(line) };
  return { type: "MultiPolygon", coordinates: parts.map((rings) => rings.map(ring)) };
}

function boxOf(geometry) {
  const numbers = geometry.coordinates.flat(Infinity);
  const lng = numbers.filter((_, i) => i % 2 === 0);
  const lat = numbers.filter((_, i) => i % 2 === 1);
  return [Math.min(...lng), Math.min(...lat), Math.max(...lng), Math.max(...lat)];
}

function centreOf(geometry) {
  if (geometry === null) return null;
  if (geometry.type === "MultiLineString") {
    const line = geometry.coordinates[0];
    return line[Math.floor(line.length / 2)];
  }
  const [west, south, east, north] = boxOf(geometry);
  return [(west + east) / 2, (south + north) / 2];
}

function holds(geometry, [lng, lat]) {
  if (geometry?.type !== "MultiPolygon") return false;
  const crossings = (ring) =>
    ring.slice(1).filter(([x1, y1], i) => {
      const [x0, y0] = ring[i];
      return y0 > lat !== y1 > lat && lng < x0 + ((x1 - x0) * (lat - y0)) / (y1 - y0);
    }).length;
  return geometry.coordinates.some((rings) => rings.reduce((sum, ring) => sum + crossings(ring), 0) % 2 === 1);
}

// metres from a point to the nearest of a line or of points; none to what is around it, endless to what is not
function distanceTo(geometry, point) {
  if (geometry === null) return Infinity;
  if (geometry.type === "MultiPolygon") return holds(geometry, point) ? 0 : Infinity;
  const [wide, high] = [metresOfLng(point[1]), DEGREE_M];
  const metres = ([lng, lat]) => [(lng - point[0]) * wide, (lat - point[1]) * high];
  if (geometry.type === "MultiPoint") return Math.min(...geometry.coordinates.map((at) => Math.hypot(...metres(at))));
  let least = Infinity;
  for (const line of geometry.coordinates) {
    for (let i = 1; i < line.length; i++) {
      const [[x0, y0], [x1, y1]] = [metres(line[i - 1]), metres(line[i])];
      const [dx, dy] = [x1 - x0, y1 - y0];
      const along = Math.min(1, Math.max(0, -(x0 * dx + y0 * dy) / (dx * dx + dy * dy || 1)));
      least = Math.min(least, Math.hypot(x0 + along * dx, y0 + along * dy));
    }
  }
  return least;
}

// answers from what the page holds
function embeddedStore() {
  const kept = new Map();
  const unpacked = (id) =>
    new Response(new Blob([bytesOf(found(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip")));

  function json(id, many = 24) {
    const answer = kept.get(id) ?? unpacked(id).json();
    kept.delete(id);
    kept.set(id, answer);
    if (kept.size > many) kept.delete(kept.keys().next().value);
    return answer;
  }

  async function tile({ url }) {
    const id = `tile-${url.slice("held://".length).replaceAll("/", "-")}`;
    return { data: found(id) ? await unpacked(id).arrayBuffer() : new ArrayBuffer(0) };
  }

  async function row(k, i) {
    const layer = data.layers[k];
    const block = await json(`rows-${k}-${Math.floor(i / layer.rows_a_block)}`);
    const place = i % layer.rows_a_block;
    const geometry = geometryOf(block.shapes[place], layer);
    const { rows } = await json(`order-${k}`);
    const stands = rows.indexOf(i);
    return {
      place: stands < 0 ? null : stands,
      values: block.columns.map((column) => column[place]),
      centre: centreOf(geometry),
      geometry,
      pictures: (layer.views ?? []).filter((view) => pictureNumber(k, view, i) !== null),
    };
  }

  const pictureNumber = (k, view, i) => data.layers[k].pictures[i]?.[data.layers[k].views.indexOf(view)] ?? null;

  async function top(k, first, many) {
    const { rows, ranks } = await json(`order-${k}`);
    return Promise.all(
      rows.slice(first, first + many).map(async (i, place) => {
        const values = valuesByName(k, await row(k, i));
        const { named, listed } = data.layers[k];
        return { row: i, tile_id: String(values[named]), rank: ranks[first + place],
          value: values[listed], class: codeOf(k, values) };
      }),
    );
  }

  async function rowAt(k, point) {
    const layer = data.layers[k];
    const nearest = { row: null, away: Infinity };
    for (const [number, box] of layer.boxes.entries()) {
      if (!box || !isNear(box, point, layer.reach_m)) continue;
      const { shapes } = await json(`rows-${k}-${number}`);
      for (const [place, shape] of shapes.entries()) {
        const away = distanceTo(geometryOf(shape, layer), point);
        if (away === 0) return number * layer.rows_a_block + place;
        if (away <= layer.reach_m && away < nearest.away) Object.assign(nearest, { row: number * layer.rows_a_block + place, away });
      }
    }
    return nearest.row;
  }

  async function find(k, text) {
    const named = (await json(`names-${k}`)).indexOf(text);
    if (named >= 0) return { row: named };
    const rank = rankIn(text);
    const { rows, ranks } = await json(`order-${k}`);
    const place = rank === null ? -1 : ranks.indexOf(rank); // ties share the smallest
    if (place >= 0) return { row: rows[place] };
    const point = pointIn(data.layers[k], text);
    return point ? { point, row: await rowAt(k, point) } : { row: null };
  }

  function underlay() {
    if (!data.underlay) return null;
    const url = URL.createObjectURL(new Blob([bytesOf(found("underlay").textContent)], { type: "image/webp" }));
    return { type: "image", url, coordinates: data.underlay };
  }

  maplibregl.addProtocol("held", tile);
  return {
    tiles: (k) => `held://${k}/{z}/{x}/{y}`,
    picture: (k, view, i) => `data:image/webp;base64,${found(`picture-${pictureNumber(k, view, i)}`).textContent}`,
    row, top, find, underlay,
  };
}

// answers from the page's own server
function servedStore() {
  async function asked(path) {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}; is it still running?`);
    return answer;
  }

  const json = async (path) => (await asked(path)).json();

  // a clear pixel where there is no picture: an empty answer is none to a map
  async function underlayTile({ url }) {
    const answer = await asked(url.replace("underlay://", "/underlay/"));
    if (answer.status !== 204) return { data: await answer.arrayBuffer() };
    return { data: await createImageBitmap(new ImageData(1, 1)) };
  }

  function underlay() {
    if (!data.views.length) return null;
    return { type: "raster", tiles: ["underlay://{z}/{x}/{y}.webp"], tileSize: 256, maxzoom: 19, bounds: wholeBox() };
  }

  maplibregl.addProtocol("underlay", underlayTile);
  return {
    tiles: (k) => `${location.origin}/layers/${k}/{z}/{x}/{y}.mvt`,
    row: (k, i) => json(`/layers/${k}/rows/${i}.json`),
    top: (k, first, many) => json(`/layers/${k}/top.json?first=${first}&many=${many}`),
    find: (k, text) => json(`/layers/${k}/find.json?text=${encodeURIComponent(text)}`),
    picture: (k, view, i) => `/pictures/${encodeURIComponent(view)}/${i}?layer=${k}`,
    underlay,
  };
}

const store = data.mode === "served" ? servedStore() : embeddedStore();
