"""Fixtures every test may use."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real traces, tokenizers and weights that stands beside the project; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found beside the project: {SHARED_DATA.name}/ is missing")
    return SHARED_DATA
