"""The config.json and generation_config.json of an exported model: the source's, with what training decided.

transformers 5 writes the rotary embedding as `rope_parameters` and the precision as `dtype`; 4 reads `rope_theta`,
`rope_scaling` and `torch_dtype`, and takes theta 10,000 without a word where it does not find them. Exported configs
hold both spellings.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alttrain.engine.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# What the logits depend on and a config may leave to the defaults of the class that reads it.
DEFAULTS = (
    "attention_bias",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "mlp_bias",
    "num_key_value_heads",
    "rms_norm_eps",
    "tie_word_embeddings",
)


def exported_config(source: Mapping[str, Any], config: "PretrainedConfig", **facts: Any) -> dict[str, Any]:
    """Return the config.json of the export: every key of the source's, and what this model is to every reader.

    Args:
        source: the source's config.json.
        config: the same as transformers read it.
        facts: `architecture`, the class; `dtype`, of the exported weights; `end_id`, the token id that was trained as
            the end of a row.
    """
    exported = {key: value for key, value in source.items() if key != "auto_map"}
    if Path(str(exported.get("_name_or_path", ""))).is_absolute():
        del exported["_name_or_path"]  # a folder of the machine on which the source was written
    for name in DEFAULTS:
        value = getattr(config, name, None)
        if exported.get(name) is None and value is not None:
            exported[name] = value
    exported |= {"architectures": [facts["architecture"]], "dtype": facts["dtype"], "torch_dtype": facts["dtype"]}
    exported["eos_token_id"] = with_end(source.get("eos_token_id"), facts["end_id"])
    return exported | _both_spellings_of_rope(source, config)


def exported_generation_config(
    source: Mapping[str, Any] | None, config: Mapping[str, Any], end_id: int
) -> dict[str, Any]:
    """Return the generation_config.json of the export: the source's, which stops at the trained end too.

    A source without one gets the special tokens of its config.json, which is what transformers makes of it.
    """
    if source is None:
        named = ("bos_token_id", "eos_token_id", "pad_token_id")
        source = {name: config[name] for name in named if config.get(name) is not None}
    return {**source, "eos_token_id": with_end(source.get("eos_token_id"), end_id)}


def with_end(ids: Any, end_id: int) -> int | list[int]:
    """Return the ids at which generation stops, with `end_id` among them; an only one stays a number."""
    known = [] if ids is None else list(ids) if isinstance(ids, list) else [ids]
    stops = known if end_id in known else [*known, end_id]
    return stops if len(stops) > 1 or isinstance(ids, list) else stops[0]


def read_generation_config(folder: Path, end_id: int) -> dict[str, Any] | None:
    """Return what generation_config.json holds; None where there is no such file.

    Raises:
        ModelError: it is no JSON object, its ids of end tokens are no whole numbers, or it keeps `end_id`, which is
            trained as the end, from ever being generated.
    """
    file = folder / "generation_config.json"
    if not file.is_file():
        return None
    values = read_object(file)
    _check_ids(file, values)
    for name, kept_away in (("suppress_tokens", end_id), ("bad_words_ids", [end_id])):
        if kept_away in (values.get(name) or []):
            raise ModelError(
                f"{name} holds {end_id}, the token that is trained as the end of a row: it would never be generated. "
                "Take it out.",
                where=file,
            )
    return values


def read_object(file: Path) -> dict[str, Any]:
    """Return what a file of JSON holds.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError("not a JSON file. Fetch it again, or mend it.", where=file) from error
    if not isinstance(values, dict):
        raise ModelError(f"holds a JSON {type(values).__name__}; it must hold an object. Fetch it again.", where=file)
    return values


def check_end_ids(folder: Path, source: Mapping[str, Any]) -> None:
    """Refuse a config.json whose ids of end tokens are no whole numbers.

    Raises:
        ModelError: they are not.
    """
    _check_ids(folder / "config.json", source)


def _check_ids(file: Path, values: Mapping[str, Any]) -> None:
    ids = values.get("eos_token_id")
    for value in ids if isinstance(ids, list) else [] if ids is None else [ids]:
        if type(value) is not int or value < 0:
            raise ModelError(
                f"eos_token_id is {json.dumps(ids)[:80]}; it must be a token id, a list of them, or null. Mend it.",
                where=file,
            )


def _both_spellings_of_rope(source: Mapping[str, Any], config: "PretrainedConfig") -> dict[str, Any]:
    """Return `rope_parameters`, and `rope_theta` and `rope_scaling` which say the same, the source's where they do."""
    parameters: dict[str, Any] = config.to_dict()["rope_parameters"]
    scaling = {key: value for key, value in parameters.items() if key not in ("rope_theta", "partial_rotary_factor")}
    is_plain = scaling.get("rope_type", "default") == "default"
    # transformers 5 prefers a `rope_scaling` to `rope_parameters`, so that it says what the source means.
    rope = {
        "rope_scaling": source.get("rope_scaling") or (None if is_plain else scaling),
        "rope_parameters": parameters,
    }
    known = ("rope_theta", "partial_rotary_factor")
    return rope | {key: parameters[key] for key in known if key in parameters}
