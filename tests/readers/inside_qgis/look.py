"""Run by the Python that has QGIS: JSON of what to look at on stdin, JSON of what was seen on stdout.

A look is a `path`, the `provider` that reads it, and optionally `sld`, a style to be put on it, `at`,
places in the layer's CRS whose pixels are wanted, and `png`, where the picture goes.
"""

from __future__ import annotations

import json
import os
import sys

from osgeo import gdal
from qgis.core import (
    Qgis,
    QgsApplication,
    QgsMapRendererCustomPainterJob,
    QgsMapSettings,
    QgsPointXY,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage, QPainter

SIDE_PX = 800
DPI = 240  # the narrowest line is then wider than a pixel and its blurred edges
PATCH_PX = 9  # hatching shows in a patch, not in a pixel


def drawn(layer, look):
    """The colour of each place, and how many colours the patch around it has."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setBackgroundColor(QColor("white"))
    settings.setOutputSize(QSize(SIDE_PX, SIDE_PX))
    settings.setOutputDpi(DPI)
    settings.setExtent(layer.extent().buffered(0.02 * layer.extent().width()))
    image = QImage(SIDE_PX, SIDE_PX, QImage.Format_RGB32)
    image.fill(QColor("white"))
    painter = QPainter(image)
    job = QgsMapRendererCustomPainterJob(settings, painter)
    job.start()
    job.waitForFinished()
    painter.end()
    if "png" in look:
        image.save(look["png"])
    seen = []
    for x, y in look.get("at", []):
        pixel = settings.mapToPixel().transform(QgsPointXY(x, y))
        col, row = int(pixel.x()), int(pixel.y())
        reach = range(-(PATCH_PX // 2), PATCH_PX // 2 + 1)
        patch = {
            image.pixelColor(min(max(col + i, 0), SIDE_PX - 1), min(max(row + j, 0), SIDE_PX - 1)).name()
            for i in reach
            for j in reach
        }
        seen.append([image.pixelColor(col, row).name(), len(patch)])
    return seen


def classes(renderer):
    """Label and colour of each class, and of a category also its value."""
    kind = type(renderer).__name__
    if kind == "QgsCategorizedSymbolRenderer":
        return [[c.value(), c.label(), c.symbol().color().name()] for c in renderer.categories()]
    if kind == "QgsRuleBasedRenderer":
        return [[r.label(), r.symbol().color().name()] for r in renderer.rootRule().children()]
    if kind == "QgsSingleBandPseudoColorRenderer":
        items = renderer.shader().rasterShaderFunction().colorRampItemList()
        return [[item.label, item.color.name()] for item in items]
    if kind == "QgsPalettedRasterRenderer":
        return [[c.label, c.color.name()] for c in renderer.classes()]
    return []


def looked(look):
    made = QgsRasterLayer if look["provider"] == "gdal" else QgsVectorLayer
    layer = made(look["path"], "layer", look["provider"])
    if not layer.isValid():
        return {"valid": False}
    if "sld" in look:
        layer.loadSldStyle(look["sld"])
    said = {
        "valid": True,
        "crs": layer.crs().authid(),
        "renderer": type(layer.renderer()).__name__,
        "classes": classes(layer.renderer()),
        "notes": layer.customProperty("userNotes"),
        "seen": drawn(layer, look),
    }
    if made is QgsVectorLayer:
        said["count"] = layer.featureCount()
        said["aliases"] = {field.name(): field.alias() for field in layer.fields()}
    return said


application = QgsApplication([], False)
application.initQgis()
drivers = [gdal.GetDriver(i).ShortName for i in range(gdal.GetDriverCount())]
answer = {
    "version": Qgis.QGIS_VERSION_INT,
    "drivers": drivers,
    "looks": [looked(look) for look in json.load(sys.stdin)],
}
print(json.dumps(answer), flush=True)
# QGIS takes its layers apart in an order that Python does not know, and crashes
os._exit(0)
