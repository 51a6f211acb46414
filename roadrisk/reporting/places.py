"""Tiles worth a look, each with its pictures and facts."""

from __future__ import annotations

import base64

from roadrisk.learning.judging.evaluation import Place
from roadrisk.reporting.parts import Part, Section, Sight, Spot, Spots, Words
from roadrisk.reporting.report import Report
from roadrisk.reporting.words import amount, chance


def places(report: Report) -> Section:
    """The riskiest tiles and the most underrated ones."""
    parts: list[Part] = []
    for name, title, none in (
        ("riskiest", "The ten riskiest tiles", "No list of the riskiest tiles is kept."),
        (
            "underrated",
            "The ten most underrated tiles: much happened where little was said",
            "No list of underrated tiles is kept.",
        ),
    ):
        found = tuple(_spot(report, place) for place in report.evaluation.places if place.list == name)
        parts.append(Spots(title, found) if found else Words(none))
    return Section("places", "Places worth a look", tuple(parts))


def _spot(report: Report, place: Place) -> Spot:
    unit = str(report.provenance.get("label", {}).get("unit") or "")
    if report.task.kind == "class":
        lines = [f"chance {chance(place.predicted)}", f"observed {amount(place.observed)} {unit}".rstrip()]
    else:
        verb = "expected" if report.task.kind == "count" else "predicted"
        lines = [
            f"{verb} {amount(place.predicted)} {unit}".rstrip(),
            f"observed {amount(place.observed)} {unit}".rstrip(),
        ]
    address = ""
    if place.lon is not None and place.lat is not None:
        lines.append(f"at {place.lat:.5f}, {place.lon:.5f} (lat, lon)")
        lat, lon = f"{place.lat:.6f}", f"{place.lon:.6f}"
        address = f"https://www.openstreetmap.org/?mlat={lat}&mlon={lon}#map=17/{lat}/{lon}"
    sights = tuple(
        Sight(view or "picture", "data:image/jpeg;base64," + base64.b64encode(jpeg).decode())
        for (key, view), jpeg in sorted(report.pictures.items())
        if key == place.key
    )
    return Spot(place.key, tuple(lines), address, sights, _without_noughts(place.facts))


def _without_noughts(facts: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The facts, and in one line the names of those that are 0: of a street network they are most."""
    noughts = [name for name, value in facts if value.split(" ")[0] == "0"]
    told = tuple((name, value) for name, value in facts if name not in noughts)
    return (*told, ("0", ", ".join(noughts))) if len(noughts) > 1 else facts
