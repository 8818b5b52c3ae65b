"""The 7B recipe with shards of 40 kB, so that a tiny model is exported in more of them than there are ranks."""

import runpy
from pathlib import Path

from alttrain.engine.run import export

export.SHARD_BYTES = 40_000
runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "alttrain_7b.py"), run_name="__main__")
