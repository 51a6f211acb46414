"""The mosaic: pictures resampled onto the grid, stored as parts whose block is one tile."""
