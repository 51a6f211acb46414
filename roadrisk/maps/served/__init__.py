"""Layers answered for over HTTP on this computer: tiles, rows, order, pictures and the page."""
