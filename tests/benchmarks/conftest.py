"""Benchmarks are run by `make bench`, which installs what they need; doctest collection passes them by."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("pytest_benchmark") else ["bench_*.py"]
