"""Weights by slices: what is read is what the file holds, and a file that is not whole is said to be so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from alttrain.engine.errors import ModelError
from alttrain.engine.model import weights
from alttrain.engine.model.weights import RandomWeights, SafetensorsWeights

TENSORS = {"a.weight": torch.arange(35.0).view(7, 5), "b.bias": torch.arange(4.0), "c": torch.ones(2, 3, 2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path


@given(data=st.data())
def test_any_slice_is_the_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("weights")
    save_file(TENSORS, folder / "model.safetensors")
    name = data.draw(st.sampled_from(sorted(TENSORS)))
    tensor = TENSORS[name]
    start = data.draw(st.integers(0, tensor.numel()))
    stop = data.draw(st.integers(start, tensor.numel()))
    read = SafetensorsWeights(folder).read(name, tuple(tensor.shape), start, stop)
    assert torch.equal(read, tensor.reshape(-1)[start:stop])


@pytest.fixture(params=["written", "real"])
def model_folder(request: pytest.FixtureRequest, write_model: Callable[..., Path], tmp_path: Path) -> Path:
    if request.param == "written":
        return write_model(tmp_path / "model")
    return Path(request.getfixturevalue("shared_data")) / "weights" / "stories260K" / "hf"


def test_a_model_slice_by_slice(model_folder: Path) -> None:
    folder = model_folder
    source = SafetensorsWeights(folder)
    for name, tensor in load_file(folder / "model.safetensors").items():
        half = tensor.numel() // 2
        parts = [source.read(name, tuple(tensor.shape), *bounds) for bounds in ((0, half), (half, tensor.numel()))]
        assert torch.equal(torch.cat(parts), tensor.reshape(-1))


def test_folder_without_safetensors(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"no \.safetensors file"):
        SafetensorsWeights(tmp_path).check({})


@pytest.mark.parametrize("kept", [0, 5, 40, 150, -1])
def test_cut_file(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cut|not a whole safetensors file"):
        SafetensorsWeights(folder).check({})


def test_shape_that_is_not_the_configs(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.weight has shape \(7, 5\), config\.json calls for \(7, 6\)"):
        SafetensorsWeights(folder).check({"a.weight": (7, 6)})


def test_missing_tensor(folder: Path) -> None:
    with pytest.raises(ModelError, match="no tensor d"):
        SafetensorsWeights(folder).check({"d": (1,)})


def test_quantised_tensor(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="stored as I8"):
        SafetensorsWeights(tmp_path).check({"a": (2,)})


def test_shards_are_those_of_the_index(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(TENSORS, "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    save_file({"a.weight": torch.zeros(1)}, folder / "stray.safetensors")  # not named, so not read
    SafetensorsWeights(folder).check({name: tuple(tensor.shape) for name, tensor in TENSORS.items()})
    index.write_text(json.dumps({"weight_map": {"a.weight": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ModelError, match=r"no such file, but model\.safetensors\.index\.json names it"):
        SafetensorsWeights(folder).check({})


def told(folder: Path, name: str, values: list[float], dtype: torch.dtype, stored: torch.dtype = torch.float32) -> str:
    save_file({name: torch.tensor(values, dtype=stored), "other": torch.ones(1)}, folder / "model.safetensors")
    error = SafetensorsWeights(folder).not_finite([name, "other"], dtype)
    assert str(error).startswith(str(folder / "model.safetensors"))
    return error.sentence


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_source_that_is_not_finite_is_told_by_name(tmp_path: Path, value: float) -> None:
    sentence = told(tmp_path, "a", [1.0, value, value, 2.0], torch.bfloat16, torch.bfloat16)
    assert sentence.startswith("2 of the 4 numbers of a are NaN or infinite (1 more tensors likewise). Fetch the model")


def test_a_number_beyond_the_dtype_that_is_trained_is_told(tmp_path: Path) -> None:
    """Rounding to bfloat16 makes the largest numbers of float32 infinite."""
    assert told(tmp_path, "a", [-3.4e38, 1.0], torch.bfloat16).startswith(
        "a holds 3.4e+38, which is infinite in bfloat16 (1 more tensors likewise). Give --model.dtype float32"
    )
    for dtype, kind in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        sentence = told(tmp_path, "a", [1e39], dtype, torch.float64)
        assert sentence.startswith(f"a holds 1e+39, which is infinite in {kind}")
        assert "No dtype that is trained can hold it" in sentence


def test_what_only_another_rank_read_is_told(tmp_path: Path) -> None:
    assert "a was read as NaN or infinite on another rank" in told(tmp_path, "a", [1.0], torch.float32)


def test_a_tied_head_is_compared_with_the_embedding_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_COMPARED", 7)
    embedding = torch.arange(20.0).view(5, 4)
    for place in range(20):
        head = embedding.clone()
        head.view(-1)[place] += 1
        save_file({"model.embed_tokens.weight": embedding, "lm_head.weight": head}, tmp_path / "model.safetensors")
        with pytest.raises(ModelError, match=r"lm_head\.weight is not model\.embed_tokens\.weight"):
            SafetensorsWeights(tmp_path).check({"model.embed_tokens.weight": (5, 4)})
    save_file({"model.embed_tokens.weight": embedding, "lm_head.weight": embedding + 0}, tmp_path / "model.safetensors")
    assert SafetensorsWeights(tmp_path).check({"model.embed_tokens.weight": (5, 4)}) == ()


def test_random_weights_that_are_infinite_are_told() -> None:
    assert "initializer_range is 1e+39" in str(RandomWeights(0, 1e39).not_finite(["a"], torch.float32))


def test_random_weights_depend_on_seed_and_name_alone() -> None:
    source = RandomWeights(seed=3, standard_deviation=0.02)
    whole = source.read("x.weight", (100, 50), 0, 5000)
    parts = [source.read("x.weight", (100, 50), start, start + 1000) for start in range(0, 5000, 1000)]
    assert torch.equal(torch.cat(parts), whole)
    assert float(whole.std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(whole, source.read("y.weight", (100, 50), 0, 5000))
    assert not torch.equal(whole, RandomWeights(4, 0.02).read("x.weight", (100, 50), 0, 5000))
    assert source.read("layers.0.input_layernorm.weight", (4,), 1, 3).tolist() == [1.0, 1.0]
    assert source.read("self_attn.q_proj.bias", (4,), 0, 2).tolist() == [0.0, 0.0]
