"""Map files and pages from scores."""
