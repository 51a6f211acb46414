"""The page of a road model: how well it draws roads, and where it does worst and best."""
