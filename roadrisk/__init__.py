"""Roadway-risk maps from aerial pictures and traffic facts."""

__version__ = "0.1.0"
