"""Centre-lines and polygons of a mask of roads: as drawn, within half a pixel, however the mask is cut."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from roadrisk.errors import LayerError
from roadrisk.grid import Grid, Part
from roadrisk.maps.layer_files import read_layer
from roadrisk.roads.lines.centrelines import OpenChains, chains_of, lines_of
from roadrisk.roads.lines.polygons import road_polygons
from roadrisk.roads.lines.skeletons import Skeleton
from roadrisk.roads.lines.vectors import AboutRoads, VectorsWritten, vectors_written

TILE = 64
GRID = Grid("cell", "EPSG:26986", 0.0, 0.0, 128.0, 1750, -7000, 4, 4)
PIXEL_M = 2.0
WHOLE = [Part(0, 0, 4, 4)]
PIECES = [Part(row, col, 2, 2) for row in (0, 2) for col in (0, 2)]
ABOUT = AboutRoads("Roads of Ville", "CC0", "The town of Ville", "abc123")
CRS = "EPSG:26986"

any_mask = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def smooth_mask(side, seed, sigma):
    noise = np.random.default_rng(seed).random((side, side)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), sigma)
    return blurred > np.median(blurred)


smooth_masks = st.builds(
    smooth_mask, st.integers(8, 24), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4])
)
masks = any_mask | smooth_masks


# -- polygons


def pixels_of(mask):
    y, x = np.nonzero(mask)
    return shapely.box(x, y, x + 1, y + 1)


def polygons_of(mask):
    return road_polygons(np.pad(mask, 1), Affine.identity())


def components(mask, connectivity):
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[0] - 1


@given(masks)
@settings(max_examples=50, deadline=None)
def test_polygons_are_those_of_the_mask_within_half_a_pixel(mask):
    polygons = polygons_of(mask)
    assert shapely.is_valid(polygons).all()
    assert len(polygons) == components(mask, 8)
    outside_and_holes = components(np.pad(~mask, 1, constant_values=True), 4)
    assert shapely.get_num_interior_rings(polygons).sum() == outside_and_holes - 1
    together = shapely.union_all(polygons)
    assert together.area == pytest.approx(shapely.area(polygons).sum(), abs=1e-9)  # none on another
    if mask.any():
        drawn, true = together.boundary, half_way_lines(mask)
        assert shapely.hausdorff_distance(drawn, true, densify=0.25) <= 0.5 + 1e-9


def half_way_lines(mask):
    """What lies half-way between centres, from middle to middle, and the pixels' own edge where they end."""
    padded, pieces = np.pad(mask, 1), []
    for y, x in np.ndindex(mask.shape[0] + 1, mask.shape[1] + 1):
        (a, b), (c, d) = padded[y : y + 2, x : x + 2].tolist()
        above, below, left, right = (x, y - 0.5), (x, y + 0.5), (x - 0.5, y), (x + 0.5, y)
        crossed = [at for at, on in ((above, a != b), (right, b != d), (below, c != d), (left, a != c)) if on]
        if x in (0, mask.shape[1]) or y in (0, mask.shape[0]):
            pieces += [[(x, y), at] for at in crossed]
        elif len(crossed) == 2:
            pieces.append(crossed)
        elif len(crossed) == 4:
            pieces += [[above, right], [below, left]] if a else [[above, left], [below, right]]
    return shapely.multilinestrings(pieces)


@given(masks, st.integers(1, 11), st.integers(1, 11))
@settings(max_examples=50, deadline=None)
def test_polygons_of_cores_side_by_side_fit_together(mask, row, col):
    padded, polygons = np.pad(mask, 1), []
    row, col = min(row, mask.shape[0]), min(col, mask.shape[1])
    for y in ((0, row), (row, mask.shape[0])):
        for x in ((0, col), (col, mask.shape[1])):
            if y[0] < y[1] and x[0] < x[1]:
                core = padded[y[0] : y[1] + 2, x[0] : x[1] + 2]
                polygons.extend(road_polygons(core, Affine.translation(x[0], y[0])))
    assert shapely.coverage_is_valid(np.array(polygons, object))
    assert shapely.area(polygons).sum() == pytest.approx(mask.sum(), abs=0.2 * perimeter(mask) + 1)


def perimeter(mask):
    padded = np.pad(mask, 1)
    return int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())


def test_a_core_is_filled_to_its_edge():
    (polygon,) = road_polygons(np.ones((6, 8), bool), Affine.scale(0.5))
    assert polygon.normalize() == shapely.box(0, 0, 3, 2).normalize()


@pytest.mark.parametrize(("slope", "most"), [(0.0, 9), (1.0, 15), (0.5, 15)])
def test_a_slanted_road_has_straight_sides(slope, most):
    y, x = np.mgrid[:80, :60]
    mask = (np.abs(y - slope * x - 10) <= 3) & (x > 2) & (x < 57)
    (polygon,) = polygons_of(mask)
    assert shapely.get_num_coordinates(polygon) <= most
    assert polygon.area == pytest.approx(mask.sum(), rel=0.01)


def test_area_is_kept():
    mask = smooth_mask(400, 1, 6)
    assert shapely.area(polygons_of(mask)).sum() == pytest.approx(mask.sum(), rel=0.002)


# -- centre-lines


def links_of(mask):
    """Pairs of (y, x): neighbours, on a diagonal where no pixel beside both is."""
    pixels = set(zip(*(at.tolist() for at in np.nonzero(mask)), strict=True))
    links = []
    for y, x in sorted(pixels):
        for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
            beside = {(y + dy, x), (y, x + dx)} - {(y, x), (y + dy, x + dx)}
            if (y + dy, x + dx) in pixels and (dy == 0 or dx == 0 or not beside & pixels):
                links.append(((y, x), (y + dy, x + dx)))
    return links


def skeleton_in(mask, inside):
    """The part of a skeleton, every pixel of `mask`, whose links start `inside`."""
    links = links_of(mask)
    degree = Counter(end for link in links for end in link)
    own = [link for link in links if inside(*link[0])]
    core = [(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True) if inside(y, x)]
    pixels = core + sorted({end for _, end in own} - set(core))
    number = {pixel: i for i, pixel in enumerate(pixels)}
    n = len(pixels)
    return Skeleton(
        core=len(core),
        y=np.array([y for y, _ in pixels], np.int64),
        x=np.array([x for _, x in pixels], np.int64),
        half_width_px=np.array([1 + (3 * y + x) % 4 for y, x in pixels], float),
        degree=np.array([degree[pixel] for pixel in pixels], np.int64),
        junction=np.zeros(n, bool),
        length_px=np.zeros(n),
        links=np.array([[number[a], number[b]] for a, b in own], np.int64).reshape(-1, 2),
        link_length_px=np.ones(len(own)),
    )


def everywhere(y, x):
    return True


def pixel_lines(chains):
    return lines_of(chains, Affine.identity(), 1000, CRS)


def nodes_of(lines):
    return Counter(np.concatenate([lines.from_node, lines.to_node]).tolist())


@given(masks)
@settings(max_examples=50, deadline=None)
def test_lines_have_the_topology_of_the_links(mask):
    chains = chains_of(skeleton_in(mask, everywhere))
    lines = pixel_lines(chains)
    links = links_of(mask)
    assert sum(chain.pixels.shape[1] - 1 for chain in chains) == len(links)  # each once
    degree = Counter(y * 1000 + x for link in links for y, x in link)
    met = nodes_of(lines)
    assert met == {node: degree[node] for node in met}
    assert {node for node, count in degree.items() if count != 2} <= set(met)
    assert shapely.is_simple(lines.geometry).all()
    assert_meet_only_in_nodes(lines)
    assert not links or components(mask, 8) - dots(mask) == islands(lines)
    for line, chain in zip(lines.geometry, chains, strict=True):
        drawn = shapely.linestrings(chain.pixels[1::-1].T + 0.5)
        assert shapely.hausdorff_distance(line, drawn, densify=0.25) <= 0.5 + 1e-9


def dots(mask):
    around = cv2.filter2D(mask.astype(np.uint8), -1, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT)
    return int((mask & (around == 1)).sum())


def islands(lines):
    nodes = sorted(nodes_of(lines))
    group = {node: node for node in nodes}

    def root(node):
        while group[node] != node:
            node = group[node]
        return node

    for a, b in zip(lines.from_node.tolist(), lines.to_node.tolist(), strict=True):
        group[root(a)] = root(b)
    return len({root(node) for node in nodes})


def assert_meet_only_in_nodes(lines):
    tree = shapely.STRtree(lines.geometry)
    for i, j in tree.query(lines.geometry, predicate="intersects").T:
        if i < j:
            shared = {lines.from_node[i], lines.to_node[i]} & {lines.from_node[j], lines.to_node[j]}
            met = shapely.intersection(lines.geometry[i], lines.geometry[j])
            places = shapely.points([(node % 1000 + 0.5, node // 1000 + 0.5) for node in shared])
            assert met.normalize() == shapely.union_all(places).normalize()


@given(masks, st.integers(1, 11), st.integers(1, 11))
@settings(max_examples=50, deadline=None)
def test_cutting_does_not_change_the_lines(mask, row, col):
    wanted = pixel_lines(chains_of(skeleton_in(mask, everywhere)))
    open_chains, found = OpenChains(), []
    for below in (False, True):
        for right in (False, True):
            some = skeleton_in(mask, lambda y, x, b=below, r=right: ((y >= row) == b) and ((x >= col) == r))
            found += open_chains.joined(chains_of(some))
    assert not open_chains.rest()
    assert same_lines(pixel_lines(found)) == same_lines(wanted)


def same_lines(lines):
    values = (lines.length_m.round(9), lines.width_m.round(9), lines.from_node, lines.to_node)
    texts = shapely.to_wkt(lines.geometry, rounding_precision=-1).tolist()
    return sorted(zip(texts, *(value.tolist() for value in values), strict=True))


def test_a_chain_whose_continuation_never_comes_is_a_line():
    mask = np.zeros((3, 10), bool)
    mask[1, 1:9] = True
    open_chains = OpenChains()
    assert open_chains.joined(chains_of(skeleton_in(mask, lambda y, x: x < 5))) == []
    lines = pixel_lines(open_chains.rest())
    assert shapely.get_coordinates(lines.geometry).tolist() == [[1.5, 1.5], [5.5, 1.5]]
    assert open_chains.rest() == []


def test_width_and_length_are_ground_metres_where_the_map_stretches():
    mask = np.zeros((3, 12), bool)
    mask[1, 1:12] = True
    skeleton = skeleton_in(mask, everywhere)
    at_boston = Affine(1.0, 0, -7910000.0, 0, -1.0, 5215000.0)
    lines = lines_of(chains_of(skeleton), at_boston, 12, "EPSG:3857")
    stretch = 10 / lines.length_m[0]  # ten pixels of one unit each
    assert stretch == pytest.approx(1.3514, abs=0.001)
    assert lines.width_m[0] * stretch == pytest.approx(2 * skeleton.half_width_px.mean())


# -- the file


def reader(road, valid=None):
    known = np.ones(road.shape, bool) if valid is None else valid

    def read(window):
        found = np.zeros((2, window.height, window.width), bool)
        y0, x0 = max(window.y, 0), max(window.x, 0)
        y1, x1 = min(window.y + window.height, road.shape[0]), min(window.x + window.width, road.shape[1])
        if y0 < y1 and x0 < x1:
            there = np.s_[:, y0 - window.y : y1 - window.y, x0 - window.x : x1 - window.x]
            found[there] = np.stack([road[y0:y1, x0:x1], known[y0:y1, x0:x1]])
        return found[0], found[1]

    return read


def planted(*lines):
    """A mask of lines, nine pixels wide."""
    road = np.zeros((GRID.rows * TILE, GRID.cols * TILE), np.uint8)
    for line in lines:
        cv2.polylines(road, [np.array(line, np.int32)], False, 1, 7)
    return road > 0


def written(road, out, parts=PIECES, valid=None):
    counts = vectors_written(reader(road, valid), GRID, TILE, parts, out, ABOUT)
    lines = pyogrio.read_dataframe(out, layer="centrelines")
    polygons = pyogrio.read_dataframe(out, layer="polygons")
    assert (counts.centrelines, counts.polygons) == (len(lines), len(polygons))
    assert counts.centreline_m == pytest.approx(lines.length_m.sum())
    assert counts.polygon_m2 == pytest.approx(polygons.area_m2.sum())
    return lines, polygons


def met_nodes(lines):
    return sorted(Counter([*lines.from_node, *lines.to_node]).values())


def test_a_road_over_four_parts_is_one_line(tmp_path):
    lines, polygons = written(planted([(20, 100), (120, 100), (140, 160), (230, 160)]), tmp_path / "a.gpkg")
    assert len(lines) == 1
    assert len(polygons) == 4
    assert lines.crs == CRS == polygons.crs
    left, top = GRID.bounds.left, GRID.bounds.top
    ends = shapely.get_coordinates(lines.geometry[0])[[0, -1]]
    wanted = [(left + PIXEL_M * x, top - PIXEL_M * y) for x, y in ((20.5, 100.5), (230.5, 160.5))]
    assert np.abs(ends - wanted).max() <= 5 * PIXEL_M  # thinning eats half a width of each end
    # the centre of a pixel is what its number says
    node = divmod(lines.from_node[0], GRID.cols * TILE)
    assert ends[0].tolist() == [left + PIXEL_M * (node[1] + 0.5), top - PIXEL_M * (node[0] + 0.5)]
    assert lines.width_m[0] == pytest.approx(9 * PIXEL_M, rel=0.1)
    assert lines.length_m[0] == pytest.approx(lines.geometry[0].length, rel=1e-3)
    assert polygons.area_m2.sum() == pytest.approx(polygons.area.sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("roads", "nodes"),
    [
        ([[(20, 128), (240, 128)], [(128, 20), (128, 240)]], [1, 1, 1, 1, 4]),  # a crossing
        ([[(20, 128), (240, 128)], [(128, 128), (128, 240)]], [1, 1, 1, 3]),  # a T
        ([[(60, 60), (200, 60), (200, 200), (60, 200), (60, 60)]], [2]),  # a loop over four parts
        ([[(20, 120), (240, 120)], [(20, 130), (240, 130)]], [1, 1, 1, 1]),  # two, one pixel between them
    ],
)
def test_planted_roads_are_found(tmp_path, roads, nodes):
    road = planted(*roads)
    lines, polygons = written(road, tmp_path / "pieces.gpkg")
    whole, _ = written(road, tmp_path / "whole.gpkg", WHOLE)
    assert met_nodes(lines) == nodes
    assert sorted(whole.to_wkt().geometry) == sorted(lines.to_wkt().geometry)
    assert polygons.is_valid.all()
    assert shapely.coverage_is_valid(polygons.geometry.to_numpy())
    assert polygons.area.sum() == pytest.approx(road.sum() * PIXEL_M**2, rel=0.01)


def test_what_is_not_known_is_no_road(tmp_path):
    road = planted([(20, 100), (230, 100)])
    valid = np.ones(road.shape, bool)
    valid[:, 100:] = False
    lines, polygons = written(road, tmp_path / "a.gpkg", valid=valid)
    edge = GRID.bounds.left + PIXEL_M * 100
    assert polygons.total_bounds[2] <= edge
    assert lines.total_bounds[2] <= edge
    assert len(polygons) == len(lines) == 1


def test_no_road_is_two_empty_layers(tmp_path):
    lines, polygons = written(planted(), tmp_path / "a.gpkg")
    assert lines.columns.tolist() == ["length_m", "width_m", "from_node", "to_node", "geometry"]
    assert polygons.columns.tolist() == ["area_m2", "geometry"]
    assert lines.dtypes["from_node"] == np.int64
    assert lines.crs == polygons.crs == CRS
    counts = vectors_written(reader(planted()), GRID, TILE, PIECES, tmp_path / "a.gpkg", ABOUT)
    assert counts == VectorsWritten(0, 0, 0.0, 0.0)


@pytest.mark.filterwarnings("ignore:More than one layer")
def test_the_file_says_what_it_is(tmp_path):
    out = tmp_path / "roads.gpkg"
    written(planted([(20, 100), (230, 100)]), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["roads.gpkg"]
    assert pyogrio.list_layers(out).tolist() == [["centrelines", "LineString"], ["polygons", "Polygon"]]
    for layer in ("centrelines", "polygons"):
        told = pyogrio.read_info(out, layer=layer)["layer_metadata"]
        assert (told["LICENCE"], told["ATTRIBUTION"], told["MODEL"]) == ("CC0", "The town of Ville", "abc123")
        assert json.loads(told["ROADRISK"])["title"] == "Roads of Ville"
    file = read_layer(out)
    assert file.ours
    assert file.about["licence"] == "CC0"
    assert [(field.name, field.unit) for field in file.fields][:2] == [("length_m", "m"), ("width_m", "m")]
    assert file.fields[0].description == "Length of the centre-line on the ground."


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    out = tmp_path / "roads.gpkg"
    written(planted([(20, 100), (230, 100)]), out)
    before = out.read_bytes()

    def broken(window):
        raise LayerError("a part cannot be read")

    with pytest.raises(LayerError, match="a part cannot be read"):
        vectors_written(broken, GRID, TILE, PIECES, out, ABOUT)
    assert out.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    assert len(written(planted(), out)[0]) == 0


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "folder.gpkg").mkdir()
    for name, text in (
        ("roads.shp", "has no suffix known for lines and polygons of roads; use .gpkg"),
        ("folder.gpkg", "is a folder; give the name of a file"),
        ("none/roads.gpkg", "is not a folder, so roads.gpkg cannot be written there; make it first"),
    ):
        with pytest.raises(LayerError) as raised:
            vectors_written(reader(planted()), GRID, TILE, PIECES, tmp_path / name, ABOUT)
        assert str(raised.value).endswith(text)
        assert "\n" not in str(raised.value)
