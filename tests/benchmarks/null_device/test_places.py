"""The two sets of versions are the ends of the range that setup.py states."""

import re
from pathlib import Path

import pytest

from null_device.places import ROOT, Failure, VersionSet, read_pins, version_sets

SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def test_the_oldest_set_is_the_lower_end_of_the_range() -> None:
    lowest = dict(re.findall(r'"(torch|triton|transformers|deepspeed)>=([\d.]+)', SETUP))
    for name, version in version_sets()["oldest"].packages.items():
        assert version.split(".")[: len(lowest[name].split("."))] == lowest[name].split("."), name


def test_the_pinned_set_is_that_of_the_constraints() -> None:
    pins = read_pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    packages = version_sets()["pinned"].packages
    assert packages == {name: pins[name] for name in packages}
    assert packages.keys() == version_sets()["oldest"].packages.keys()


def test_a_set_is_ready_when_these_versions_have_been_fetched_and_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("null_device.places.FOLDER", tmp_path)
    versions = VersionSet("pinned", {"torch": "9.9.9"})
    with pytest.raises(Failure, match=r"null_suite\.py fetch"):
        _ = versions.site
    (tmp_path / "pinned/venv/lib/python3.12/site-packages").mkdir(parents=True)
    versions.libraries.mkdir()
    versions.built.touch()
    assert not versions.is_ready
    versions.fetched.write_text("torch==9.9.8\n")
    assert not versions.is_ready
    versions.fetched.write_text("torch==9.9.9\n")
    assert versions.is_ready
    assert versions.site == tmp_path / "pinned/venv/lib/python3.12/site-packages"


def test_triton_is_not_interpreted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    environment = version_sets()["oldest"].environment()
    assert "TRITON_INTERPRET" not in environment
    assert environment["LD_LIBRARY_PATH"] == environment["NULL_DEVICE_LIBRARIES"]
