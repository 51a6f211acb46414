"""Points, lines, polygons and pixels beside a grid; pure, and knows no sources and no columns."""
