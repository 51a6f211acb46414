"""The report: one HTML file that says what a model is worth, to whoever has to defend it."""
