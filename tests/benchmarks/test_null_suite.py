"""The engine's CUDA path on the null device: what is missing is said in a sentence, and the short form of the check."""

import subprocess
import sys
from pathlib import Path

import null_suite
import pytest

from null_device import building, fetching
from null_device.places import Failure, VersionSet, version_sets
from skips import NO_NULL_DEVICE

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "null_suite.py"


def test_what_is_missing_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: VersionSet) -> None:
        raise Failure("there is no C compiler here.")

    monkeypatch.setattr(null_suite, "fetch", lambda _: None)
    monkeypatch.setattr(null_suite, "build", refuse)
    assert null_suite.main(["check"]) == 2
    assert capsys.readouterr().err == "null device: there is no C compiler here.\n"


def test_a_machine_without_a_compiler_or_binutils_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None if name in ("cc", "gcc", "clang") else f"/bin/{name}")
    with pytest.raises(Failure, match="no C compiler"):
        building._compiler()
    monkeypatch.setattr("shutil.which", lambda name: None if name == "nm" else f"/bin/{name}")
    with pytest.raises(Failure, match="nm of binutils"):
        building._compiler()


def test_a_torch_that_was_not_built_for_cuda_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(python: str, *arguments: str) -> None:
        asked.append(arguments)
        if "--target" in arguments:
            Path(arguments[arguments.index("--target") + 1]).mkdir(parents=True)
        else:
            (tmp_path / "a/venv/lib/python3.12/site-packages/torch/lib").mkdir(parents=True, exist_ok=True)

    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("null_device.places.FOLDER", tmp_path)
    monkeypatch.setattr(fetching, "HEADERS", tmp_path / "headers")
    monkeypatch.setattr(fetching, "_pip", pretend)
    monkeypatch.setattr("venv.create", lambda *_, **__: None)
    versions = VersionSet("a", {"torch": "2.13.0", "triton": "3.7.1", "transformers": "5.23.0", "deepspeed": "0.19.8"})
    with pytest.raises(Failure, match="build without CUDA"):
        fetching.fetch(versions)
    assert any("torch===2.13.0" in arguments and "--no-deps" in arguments for arguments in asked)
    assert not versions.is_fetched


@pytest.mark.parametrize("name", version_sets())
def test_the_short_form_of_the_check(name: str) -> None:
    if not version_sets()[name].is_ready:
        pytest.skip(NO_NULL_DEVICE)
    done = subprocess.run(
        [sys.executable, str(SUITE), "check", "--short", "--set", name],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
