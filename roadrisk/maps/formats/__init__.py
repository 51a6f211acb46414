"""One file of a layer's for each form that it can be written in."""
