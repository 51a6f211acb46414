"""A network that learns to draw roads, and units that it is kept from."""
