"""What is simple and well known, on the same folds as a network."""
