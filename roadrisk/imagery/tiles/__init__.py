"""Pictures that come as tiles: servers and archives, by way of a cache."""
