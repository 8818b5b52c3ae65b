"""The version of alttrain: setup.py installs under it, and every run records it."""

__version__ = "0.1.0"
