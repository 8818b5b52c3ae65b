"""A model is the same wherever and however it lies, and no other model is the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alttrain.engine.errors import ModelError
from alttrain.engine.model import identity
from alttrain.engine.model.identity import model_digest, text_digest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Path:
    return write_model(tmp_path_factory.mktemp("identity") / "model")


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_a_copy_and_a_link_are_the_same(model: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    (copy / "README.md").write_text("where it came from")
    config = json.loads((copy / "config.json").read_text())
    noted = {"transformers_version": "9", "_name_or_path": "/x", **dict(reversed(config.items()))}
    (copy / "config.json").write_text(json.dumps(noted | {"transformers_version": "9"}, indent=7))
    assert model_digest(model) == model_digest(copy) == model_digest(tmp_path / "link")


def test_the_split_into_files_does_not_matter(model: Path, copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, chosen in shards.items():
        save_file({name: tensors[name] for name in reversed(chosen)}, copy / file)
    index = {"weight_map": {name: file for file, chosen in shards.items() for name in chosen}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert model_digest(copy) == model_digest(model)


def change_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] += 1
    save_file(tensors, folder / "model.safetensors")


def change_dtype(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")


def change_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))


def change_tokenizer(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|user|>", "<|User|>"))


@pytest.mark.parametrize("change", [change_weights, change_dtype, change_config, change_tokenizer])
def test_another_model_of_the_same_shapes_is_another(model: Path, copy: Path, change: Callable[[Path], None]) -> None:
    before = model_digest(copy)
    change(copy)
    assert model_digest(copy) != before
    same_without_weights = change in (change_weights, change_dtype)
    assert (model_digest(copy, with_weights=False) == model_digest(model, with_weights=False)) is same_without_weights


def test_of_a_large_tensor_samples_are_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ends are among the samples, and a change throughout it is seen in any of them; no more bytes are read."""
    size = 1 << 22
    tensor = torch.arange(size, dtype=torch.float32)
    digests = []
    for values in (
        tensor,
        tensor + 1,
        torch.cat([tensor[:-1], torch.zeros(1)]),
        torch.cat([torch.ones(1), tensor[1:]]),
    ):
        save_file({"model.embed_tokens.weight": values}, copy / "model.safetensors")
        digests.append(model_digest(copy))
    assert len(set(digests)) == 4
    pieces = identity._pieces(size * 4)
    assert sum(length for _, length in pieces) == identity.SAMPLES * identity.SAMPLE_BYTES < size
    assert pieces[0][0] == 0
    assert sum(pieces[-1]) == size * 4
    assert identity._pieces(identity.WHOLE_BYTES) == [(0, identity.WHOLE_BYTES)]


def test_drawn_weights_need_no_file(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert model_digest(copy, with_weights=False)
    with pytest.raises(ModelError, match=r"no \.safetensors file"):
        model_digest(copy)


def test_a_chat_template_is_known_by_its_text() -> None:
    assert text_digest("a") == text_digest("a") != text_digest("b")
    assert text_digest(None) == text_digest("")
