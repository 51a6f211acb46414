"""The only place that reads foreign tables: points, lines, polygons, rasters of facts."""
