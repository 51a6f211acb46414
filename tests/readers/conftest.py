"""What only QGIS can import is no test."""

collect_ignore = ["inside_qgis"]
