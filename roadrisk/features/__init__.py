"""Grid and records in, columns out; pure."""
