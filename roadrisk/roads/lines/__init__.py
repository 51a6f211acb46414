"""A mask of roads becomes centre-lines, columns, lines and polygons."""
