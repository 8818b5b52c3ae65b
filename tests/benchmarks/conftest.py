"""Benchmarks are scripts: their own folder is on the path when they run, and is put there for their tests."""

import sys
from pathlib import Path

# At the end, and never the project's root: that holds a folder `kernels`.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
