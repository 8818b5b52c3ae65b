"""What the names of tensors give away; whole folders of each kind are in test_weights_as_transformers.py."""

from pathlib import Path

import pytest

from alttrain.engine.errors import ModelError
from alttrain.engine.model.weight_files import Entry
from alttrain.engine.model.weight_names import EMBEDDING, HEAD, dropped_names, missing_tensor, unfit_shape

QUERY = "model.layers.0.self_attn.q_proj.weight"
EXPECTED = {EMBEDDING: (9, 4), QUERY: (4, 4), "model.norm.weight": (4,), HEAD: (9, 4)}


def entries(*names: str) -> dict[str, Entry]:
    return {name: Entry(Path("/m/model.safetensors"), (9, 4), "F32") for name in names}


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ((EMBEDDING, HEAD), f"no tensor {QUERY}, which its config.json calls for"),
        ((EMBEDDING, HEAD, f"x.{QUERY}"), "Take 'x.' off the names"),
        ((EMBEDDING, HEAD, f"x.y.{QUERY.removeprefix('model.')}"), "Write 'model.' for 'x.y.' in the names"),
        ((EMBEDDING, HEAD, QUERY.removeprefix("model.")), f"holds {QUERY.removeprefix('model.')} in the place of"),
        ((EMBEDDING, HEAD, QUERY.replace("weight", "weight_packed")), "so the model is quantised"),
        ((EMBEDDING, HEAD, QUERY.replace("weight", "base_layer.weight")), "an adapter that is not merged"),
        ((EMBEDDING,), f"no tensor {HEAD}, and config.json does not tie it"),
    ],
)
def test_a_missing_tensor_is_told_with_its_reason(held: tuple[str, ...], reason: str) -> None:
    error = missing_tensor(QUERY, EXPECTED, entries(*held), Path("/m"))
    assert reason in str(error)
    assert str(error).startswith("/m")


def test_a_tied_embedding_is_not_looked_for_in_the_head() -> None:
    tied = {name: shape for name, shape in EXPECTED.items() if name != HEAD}
    error = missing_tensor(EMBEDDING, tied, entries(HEAD, QUERY), Path("/m"))
    assert f"no tensor {EMBEDDING}, only {HEAD}, to which config.json ties it" in str(error)


def test_other_rows_of_the_embedding_are_another_vocabulary() -> None:
    entry = entries(EMBEDDING)[EMBEDDING]
    assert "Set vocab_size to 9 in config.json" in str(unfit_shape(EMBEDDING, (8, 4), entry))
    for name, shape in ((EMBEDDING, (9, 5)), (QUERY, (8, 4))):
        assert "must be of one model" in str(unfit_shape(name, shape, entry))


def test_what_is_no_part_of_the_model_is_passed_over_by_name() -> None:
    held = entries(*EXPECTED, "visual.a", "model.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq")
    assert dropped_names(EXPECTED, held) == ["visual.a"]
    assert dropped_names({name: EXPECTED[name] for name in EXPECTED if name != HEAD}, held) == ["visual.a"]


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.7.any", QUERY.replace("weight", "bias"), "lm_head.bias", "model.norm.bias", "norm.weight",
        f"model.{HEAD}", f"{QUERY}_scale", "lm_head.qzeros",
    ],
)  # fmt: skip
def test_what_may_be_a_part_of_it_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"/m/model.safetensors: holds {name}"):
        dropped_names(EXPECTED, entries(*EXPECTED, name))
