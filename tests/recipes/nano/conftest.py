"""The recipe's own modules, imported as the recipe imports them: by `nano`, from the folder of recipes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "recipes"))
