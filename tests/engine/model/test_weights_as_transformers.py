"""The weights that are trained are those that transformers loads from the folder, or the folder is refused.

Every folder here is a small model's, changed in one way. Where it is refused, the way out that the sentence gives is
taken, and what is trained then is again what transformers loads.
"""

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from alttrain.engine.config import ModelConfig, RunConfig
from alttrain.engine.errors import ModelError
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.model.packed_lm import build_model
from weight_folders import (
    EMBEDDING,
    FILE,
    HEAD,
    INDEX,
    NORM,
    QUERY,
    SHARD,
    Change,
    Tensors,
    adding,
    after,
    casting,
    configured,
    holding,
    indexed,
    linked,
    older,
    removed,
    renamed,
    renaming,
    resaved,
    sharded,
    tensors_of,
    without_head,
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("as-transformers")
    models = {family: write_model(made / family, family, tied=False) for family in ("llama", "qwen2", "qwen3")}
    return {**models, "tied": write_model(made / "tied", "qwen3", tied=True)}


@pytest.fixture
def copied(models: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(models[name], tmp_path / "model"))


def trained(folder: Path, dtype: str) -> tuple[Tensors, tuple[str, ...]]:
    """Return the parameters as they are before the first step, a tied head too, and what is told of the files."""
    config = RunConfig(model=ModelConfig(path=str(folder), dtype=dtype, kernels="torch", checkpointing="off"))  # type: ignore[arg-type]
    backbone = open_backbone(config)
    model = build_model(config.model, backbone, torch.device("cpu"), contextlib.nullcontext())
    with torch.no_grad():
        for name, parameter in model.causal_lm.named_parameters():
            values = backbone.weights.read(name, tuple(parameter.shape), 0, parameter.numel())
            parameter.view(-1).copy_(values)
    told = tuple(note for note in backbone.notes if note.startswith("weights: "))
    return dict(model.causal_lm.named_parameters(remove_duplicate=False)), told


def check_equal(folder: Path, dtype: str) -> tuple[str, ...]:
    ours, notes = trained(folder, dtype)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    parameters = dict(theirs.named_parameters(remove_duplicate=False))
    assert ours.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert ours[name].dtype == parameter.dtype == getattr(torch, dtype)
        assert torch.equal(ours[name], parameter), name
    assert (ours[HEAD] is ours[EMBEDDING]) == (parameters[HEAD] is parameters[EMBEDDING])
    return notes


TRAINED: dict[str, tuple[str, Change]] = {
    "as it is, llama": ("llama", after()),
    "as it is, qwen2": ("qwen2", after()),
    "as it is, qwen3": ("qwen3", after()),
    "as it is, tied": ("tied", after()),
    "a link, as the hub's cache has them": ("llama", linked),
    "tying not named, two matrices": ("qwen3", configured(tie_word_embeddings="absent")),
    "tied, and an equal head": ("tied", tensors_of(lambda held: held.update({HEAD: held[EMBEDDING].clone()}))),
    "tied, and an equal head wider": (
        "tied",
        tensors_of(lambda held: held.update({EMBEDDING: held[EMBEDDING].half(), HEAD: held[EMBEDDING].half().float()})),
    ),
    "all in float16": ("llama", casting(lambda index: torch.float16)),
    "all in bfloat16": ("llama", casting(lambda index: torch.bfloat16)),
    "every dtype": ("llama", casting(lambda i: (torch.float64, torch.float32, torch.float16, torch.bfloat16)[i % 4])),
    "config.json names another dtype": ("qwen2", configured(dtype="float16", torch_dtype="bfloat16")),
    "numbers too small for float16": ("llama", tensors_of(lambda held: held[QUERY].mul_(1e-30))),
    "shards": ("qwen2", sharded(count=3)),
    "an index of the one file": ("llama", lambda folder: indexed(*load_file(folder / FILE), file=FILE)(folder)),
    "an index that names other places": (
        "llama",
        after(sharded(), lambda folder: (folder / INDEX).write_text(
            re.sub(r"00001(-of-00002\.safetensors\",)", r"00002\1", (folder / INDEX).read_text(), count=1))),
    ),
    "an index that names no head, tied": ("tied", sharded()),
    "frequencies, as older versions saved them": (
        "llama", adding(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(6)),
    ),
    "frequencies of the model": ("llama", adding(model__rotary_emb__inv_freq=torch.ones(3))),
    "nothing in a tensor": ("llama", adding(extra=torch.zeros(0, 4))),
    "a vision tower": ("qwen2", adding(visual__patch__weight=torch.ones(3), mtp__fc__weight=torch.ones(2))),
    "a value head": ("qwen2", adding(v_head__summary__weight=torch.ones(3), score__weight=torch.ones(2))),
    "an older shard": ("llama", after(sharded(), older("model-00003-of-00003.safetensors"))),
    "consolidated.safetensors": ("llama", older("consolidated.safetensors")),
    "a variant": ("llama", older("model.fp16.safetensors")),
    "a copy": ("llama", older("model (1).safetensors")),
    "an adapter's weights": ("llama", older("adapter_model.safetensors")),
    "a pickle": ("llama", lambda folder: torch.save({}, folder / "pytorch_model.bin")),
    "another case": ("llama", older("MODEL.safetensors")),
}  # fmt: skip
TOLD = {
    "a vision tower": "weights: the files hold mtp.fc.weight and 1 more, for which this model has no place: neither",
    "nothing in a tensor": "the files hold extra, for which",
    "a value head": "the files hold score.weight and 1 more",
    "an older shard": "weights: read from model-00001-of-00002.safetensors and 1 more; beside it, not read: "
    "model-00003-of-00003.safetensors.",
    "consolidated.safetensors": "weights: read from model.safetensors; beside it, not read: consolidated.safetensors.",
    "a variant": "not read: model.fp16.safetensors.",
    "a copy": "not read: model (1).safetensors.",
    "an adapter's weights": "not read: adapter_model.safetensors.",
    "a pickle": "not read: pytorch_model.bin.",
    "another case": "not read: MODEL.safetensors.",
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", TRAINED)
def test_what_transformers_loads_is_trained(case: str, dtype: str, copied: Callable[[str], Path]) -> None:
    name, change = TRAINED[case]
    folder = copied(name)
    change(folder)
    notes = "\n".join(check_equal(folder, dtype))
    assert TOLD.get(case, "") in notes
    assert bool(notes) == (case in TOLD)


def float8(held: Tensors) -> None:
    held[QUERY] = held[QUERY].to(torch.float8_e4m3fn)


def one_row_less(*names: str) -> Change:
    return tensors_of(lambda held: held.update({name: held[name][:-1].clone() for name in names}))


LOST = "which config.json does not call for, so it would be lost. Weights and config must be of one model."
REFUSED: dict[str, tuple[str, Change, str, Change | None]] = {
    "the index of an older model": (
        "llama", after(older(SHARD), indexed()),
        f"/{FILE}: stands beside {INDEX}, which names {SHARD}: some programs load the one, others the other. "
        f"Delete the older of the two: {FILE}, or {INDEX} and what it names.",
        removed(INDEX, SHARD),
    ),
    "the index, and the older is the single file": (
        "llama", after(sharded(), older(FILE)),
        f"{INDEX}, which names model-00001-of-00002.safetensors and 1 more: some programs", removed(FILE),
    ),
    "an index without its shards": ("llama", indexed(), f"/{FILE}: stands beside {INDEX}", removed(INDEX)),
    "an index that names a missing shard": (
        "llama", after(sharded(), removed("model-00002-of-00002.safetensors")),
        f"/model-00002-of-00002.safetensors: no such file, but {INDEX} names it. Fetch the model again.", None,
    ),
    "an index that does not name a tensor": (
        "llama",
        after(sharded(), lambda folder: (folder / INDEX).write_text(
            re.sub(r'"lm_head\.weight": "[^"]+", ', "", (folder / INDEX).read_text()))),
        f"/{INDEX}: does not name {HEAD}, which model-00001-of-00002.safetensors holds: only some programs", resaved,
    ),
    "an index of nothing": (
        "llama", after(renamed(FILE, SHARD), holding(INDEX, '{"weight_map": {}}')), f"/{INDEX}: names no file", None,
    ),
    "an index of numbers": (
        "llama", after(renamed(FILE, SHARD), holding(INDEX, '{"weight_map": {"a": 5}}')),
        f"/{INDEX}: not an index of safetensors files", None,
    ),
    "an index that is a list": (
        "llama", after(renamed(FILE, SHARD), holding(INDEX, "[]")), f"/{INDEX}: not an index of safetensors", None,
    ),
    "shards without an index": (
        "llama", after(sharded(), removed(INDEX)),
        f"model-00001-of-00002.safetensors and 1 more, but neither {FILE} nor {INDEX}, by which transformers knows",
        None,
    ),
    "another name": (
        "llama", renamed(FILE, "weights.safetensors"),
        f": no {FILE}, by which transformers knows the weights, but weights.safetensors. If that is the model, rename",
        renamed("weights.safetensors", FILE),
    ),
    "only a variant": (
        "llama", renamed(FILE, "model.fp16.safetensors"), "but model.fp16.safetensors. If that is the model, rename",
        renamed("model.fp16.safetensors", FILE),
    ),
    "only another case": (
        "llama", renamed(FILE, "Model.safetensors"), "but Model.safetensors", renamed("Model.safetensors", FILE),
    ),
    "two strangers": (
        "llama", after(older("b.safetensors"), renamed(FILE, "a.safetensors")), "a.safetensors and 1 more, but neither",
        renamed("a.safetensors", FILE),
    ),
    "only an adapter": ("llama", renamed(FILE, "adapter_model.safetensors"), "holds an adapter and no model", None),
    "an adapter on top": (
        "llama", after(older("adapter_model.safetensors"), holding("adapter_config.json", "{}")),
        "/adapter_config.json: an adapter, which transformers would put on top", removed("adapter_config.json"),
    ),
    "a distributed checkpoint beside": (
        "llama", older("shard-00000-model-00001-of-00001.safetensors"), "a part of a distributed checkpoint",
        removed("shard-00000-model-00001-of-00001.safetensors"),
    ),
    "a file that config.json names": (
        "llama", after(configured(transformers_weights="b.safetensors"), older("b.safetensors")),
        "/config.json: transformers_weights names the file of weights 'b.safetensors', which only some programs",
        after(renamed("b.safetensors", FILE), configured(transformers_weights="absent")),
    ),
    "a link to nothing": (
        "llama", lambda folder: after(removed(FILE))(folder) or (folder / FILE).symlink_to("gone"),
        f"/{FILE}: a link to a file that does not exist", None,
    ),
    "a pointer of Git LFS": (
        "llama", holding(FILE, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        f"/{FILE}: a pointer of Git LFS, not the file itself. Run git lfs pull in its folder.", None,
    ),
    "two shards with one tensor": (
        "llama", after(sharded(), lambda folder: save_file(
            load_file(folder / "model-00002-of-00002.safetensors") | {HEAD: torch.ones(264, 48)},
            folder / "model-00002-of-00002.safetensors", {"format": "pt"})),
        f"/model-00002-of-00002.safetensors: holds {HEAD}, as model-00001-of-00002.safetensors does", resaved,
    ),
    "tied, and another head": (
        "tied", tensors_of(lambda held: held.update({HEAD: held[EMBEDDING] + 1})),
        f"/{FILE}: {HEAD} is not {EMBEDDING}, though config.json ties them (tie_word_embeddings is true)",
        configured(tie_word_embeddings=False),
    ),
    "tied, and a head that differs in its last number": (
        "tied", tensors_of(lambda held: held.update({HEAD: held[EMBEDDING].clone().index_put_(
            (torch.tensor(-1), torch.tensor(-1)), torch.tensor(9.0))})),
        f"take {HEAD} out of the file", tensors_of(lambda held: held.pop(HEAD)),
    ),
    "tied, and a quantised head": (
        "tied", tensors_of(lambda held: held.update({HEAD: held[EMBEDDING].to(torch.float8_e4m3fn)})),
        f"{HEAD} is not {EMBEDDING}", tensors_of(lambda held: held.pop(HEAD)),
    ),
    "tied, and a head of another shape": (
        "tied", tensors_of(lambda held: held.update({HEAD: held[EMBEDDING][:-1].clone()})),
        f"{HEAD} is not {EMBEDDING}", tensors_of(lambda held: held.pop(HEAD)),
    ),
    "tied, and a head under another name": (
        "tied", tensors_of(lambda held: held.update({f"model.{HEAD}": held[EMBEDDING] + 1})),
        f"holds model.{HEAD}, which transformers takes for {HEAD}.", tensors_of(lambda held: held.pop(f"model.{HEAD}")),
    ),
    "tied, and only the head": (
        "tied", renaming(lambda name: HEAD if name == EMBEDDING else name),
        f"/{FILE}: no tensor {EMBEDDING}, only {HEAD}, to which config.json ties it. Load it with", resaved,
    ),
    "tying in a nested config": (
        "qwen3", configured(text_config={"tie_word_embeddings": True}), ": transformers cannot read its config",
        configured(text_config="absent"),
    ),
    "untied, and no head": (
        "qwen3", tensors_of(lambda held: held.pop(HEAD)),
        f": no tensor {HEAD}, and config.json does not tie it to the embedding", configured(tie_word_embeddings=True),
    ),
    "tying not named, and no head": (
        "tied", configured(tie_word_embeddings="absent"), f"no tensor {HEAD}", configured(tie_word_embeddings=True),
    ),
    "without the head's prefix": (
        "tied", without_head, f"holds embed_tokens.weight in the place of {EMBEDDING}. Load it with", resaved,
    ),
    "without a head, untied": (
        "llama", without_head, f"no tensor {HEAD}, and config.json does not tie",
        after(configured(tie_word_embeddings=True), resaved),
    ),
    "the head below the model": (
        "llama", renaming(lambda name: f"model.{HEAD}" if name == HEAD else name),
        f"holds model.{HEAD} in the place of {HEAD}.", resaved,
    ),
    "a layer twice": (
        "llama", tensors_of(lambda held: held.update({NORM.removeprefix("model."): held[NORM] + 1})),
        f"holds norm.weight, which transformers takes for {NORM}. Take it out", tensors_of(
            lambda held: held.pop("norm.weight")),
    ),
    "quantised, one tensor": ("llama", tensors_of(float8), f"{QUERY} is stored as F8_E4M3", None),
    "quantised, integers": (
        "llama", tensors_of(lambda held: held.update({QUERY: torch.ones(99, 1, dtype=torch.uint8)})),
        f"{QUERY} is stored as U8", None,
    ),
    "quantised, scales beside": (
        "llama", tensors_of(lambda held: held.update({f"{QUERY}_scale_inv": torch.ones(1, 1)})),
        f"holds {QUERY}_scale_inv, so the model is quantised", None,
    ),
    "quantised, other names": (
        "llama", renaming(lambda name: name.replace("q_proj.weight", "q_proj.qweight")),
        "holds model.layers.0.self_attn.q_proj.qweight, so the model is quantised", None,
    ),
    "an adapter that is not merged": (
        "llama", renaming(lambda name: name.replace("q_proj.weight", "q_proj.base_layer.weight")),
        "q_proj.base_layer.weight: an adapter that is not merged",
        renaming(lambda name: name.replace(".base_layer", "")),
    ),
    "names of a model that sees too": (
        "llama", renaming(lambda name: name.replace("model.", "model.language_model.")),
        "Write 'model.' for 'model.language_model.' in the names",
        renaming(lambda name: name.replace("language_model.", "")),
    ),
    "another embedding's rows": (
        "llama", one_row_less(EMBEDDING, HEAD), f"{EMBEDDING} has shape (263, 48), config.json calls for (264, 48). "
        "Set vocab_size to 263", configured(vocab_size=263),
    ),
    "one matrix of another shape": (
        "llama", one_row_less(QUERY), f"{QUERY} has shape (47, 48), config.json calls for (48, 48)", None,
    ),
    "a matrix that is turned": (
        "llama", tensors_of(lambda held: held.update({"model.layers.1.mlp.up_proj.weight": torch.ones(48, 80)})),
        "model.layers.1.mlp.up_proj.weight has shape (48, 80), config.json calls for (80, 48)", None,
    ),
    "a matrix without rows": (
        "llama", tensors_of(lambda held: held.update({QUERY: torch.ones(0, 48)})), f"{QUERY} has shape (0, 48)", None,
    ),
    "a bias": ("llama", adding(model__layers__0__self_attn__q_proj__bias=torch.ones(48)), LOST, None),
    "a bias of the head": ("llama", adding(lm_head__bias=torch.ones(264)), f"holds lm_head.bias, {LOST}", None),
    "a bias of the last norm": ("qwen2", adding(model__norm__bias=torch.ones(48)), f"model.norm.bias, {LOST}", None),
    "a layer of prediction": ("qwen3", adding(model__layers__2__eh_proj__weight=torch.ones(3)), LOST, None),
}  # fmt: skip
for prefix in ("_orig_mod.", "module.", "base_model.model."):
    REFUSED[f"the names after {prefix}"] = (
        "llama",
        renaming(lambda name, prefix=prefix: prefix + name),  # type: ignore[misc]
        f"holds {prefix}{EMBEDDING} and no {EMBEDDING}: the names are those of a wrapper. Take {prefix!r} off",
        renaming(lambda name, prefix=prefix: name.removeprefix(prefix)),  # type: ignore[misc]
    )


@pytest.mark.parametrize("case", REFUSED)
def test_another_folder_is_refused_and_the_way_out_leads_there(case: str, copied: Callable[[str], Path]) -> None:
    name, change, sentence, way_out = REFUSED[case]
    folder = copied(name)
    change(folder)
    with pytest.raises(ModelError) as caught:
        trained(folder, "float32")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(folder))
    if way_out is not None:
        way_out(folder)
        check_equal(folder, "float32")
