"""Why a model says what it says of a tile: contributions that add up, a heat map, tiles that are like it."""
