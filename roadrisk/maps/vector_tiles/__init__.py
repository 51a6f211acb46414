"""Layers as Mapbox Vector Tiles, made when somebody asks for one."""

from roadrisk.maps.vector_tiles.tiles import VectorTiles, vector_tiles

__all__ = ["VectorTiles", "vector_tiles"]
