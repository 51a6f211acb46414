"""The legend of a layer as the styles of map programs."""
