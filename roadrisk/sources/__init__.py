"""The only place that reads foreign bytes."""
