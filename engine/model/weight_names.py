"""What the names and shapes of a file's tensors say where they are not those that config.json calls for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from alttrain.engine.errors import ModelError
from alttrain.engine.model.weight_files import Entry, Shape

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
PREFIX = "model."

# How the usual quantisers name what stands beside, or in the place of, a module's weight.
_QUANTISED = (
    "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_packed", "weight_shape", "weight_zero_point",
    "input_scale", "qweight", "qzeros", "scales", "g_idx", "absmax", "quant_map", "nested_absmax", "nested_quant_map",
    "bitsandbytes__nf4", "bitsandbytes__fp4", "SCB", "weight_format",
)  # fmt: skip
_RESAVE = (
    "Load it with AutoModelForCausalLM of transformers 5, save that elsewhere with save_pretrained, and take its "
    "weights and config.json."
)


def missing_tensor(name: str, expected: Iterable[str], entries: Mapping[str, Entry], folder: Path) -> ModelError:
    """Return the error of a folder that has no tensor `name`, with what its other names say about the reason."""
    module = name.rpartition(".")[0]
    siblings = [other for other in entries if other.startswith(f"{module}.")]
    quantised = [other for other in siblings if _is_of_a_quantiser(other)]
    if quantised:
        return _quantised(quantised[0], entries)
    if f"{module}.base_layer.weight" in entries:
        return ModelError(
            f"holds {module}.base_layer.weight: an adapter that is not merged. Merge it (merge_and_unload of peft) "
            "and save the model.",
            where=entries[f"{module}.base_layer.weight"].file,
        )
    if HEAD in expected and not any(other.endswith(HEAD) for other in entries):
        return ModelError(
            f"no tensor {HEAD}, and config.json does not tie it to the embedding: programs would draw a head at "
            "random. Fetch the model again, or set tie_word_embeddings to true in config.json if its head is the "
            "embedding.",
            where=folder,
        )
    if name == EMBEDDING and HEAD in entries and HEAD not in expected:
        return ModelError(
            f"no tensor {EMBEDDING}, only {HEAD}, to which config.json ties it. {_RESAVE}", where=entries[HEAD].file
        )
    other = name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"{PREFIX}{name}"
    if other in entries:
        return ModelError(f"holds {other} in the place of {name}. {_RESAVE}", where=entries[other].file)
    for tail, wanted in ((name, ""), (name.removeprefix(PREFIX), PREFIX)):
        wrapped = next((other for other in entries if other.endswith(f".{tail}")), None)
        if wrapped is not None:
            change = (
                f"Write {wanted!r} for {wrapped.removesuffix(tail)!r} in"
                if wanted
                else (f"Take {wrapped.removesuffix(tail)!r} off")
            )
            return ModelError(
                f"holds {wrapped} and no {name}: the names are those of a wrapper. {change} the names (load_file and "
                "save_file of safetensors).",
                where=entries[wrapped].file,
            )
    return ModelError(
        f"no tensor {name}, which its config.json calls for. Fetch the model again.",
        where=folder,
    )


def unfit_shape(name: str, shape: Shape, entry: Entry) -> ModelError:
    """Return the error of a tensor whose shape is not the one that config.json calls for."""
    way_out = "Weights and config must be of one model."
    if name in (EMBEDDING, HEAD) and len(entry.shape) == 2 and entry.shape[1:] == shape[1:]:
        way_out = f"Set vocab_size to {entry.shape[0]} in config.json, if the weights are the right ones."
    return ModelError(
        f"{name} has shape {entry.shape}, config.json calls for {shape}. {way_out}",
        where=entry.file,
    )


def dropped_names(expected: Mapping[str, Shape], entries: Mapping[str, Entry]) -> list[str]:
    """Return the tensors that belong to no module of the model, in order: transformers passes over them too.

    Rotary frequencies, which older versions saved, and a tied head are not among them.

    Raises:
        ModelError: a tensor belongs to a layer or another module of the model, or may be taken for one of its
            parameters: training would lose it.
    """
    modules = {name.rpartition(".")[0] for name in (*expected, HEAD)}
    dropped = []
    for name in sorted(entries.keys() - expected.keys() - {HEAD}):
        if "rotary_emb.inv_freq" in name:
            continue
        if _is_of_a_quantiser(name):
            raise _quantised(name, entries)
        # transformers adds or takes off this prefix where that gives the name of a parameter.
        other = name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"{PREFIX}{name}"
        if other in expected or other == HEAD:
            raise ModelError(
                f"holds {name}, which transformers takes for {other}. Take it out, or take {other} out and rename it.",
                where=entries[name].file,
            )
        if name.startswith("model.layers.") or name.rpartition(".")[0] in modules:
            raise ModelError(
                f"holds {name}, which config.json does not call for, so it would be lost. "
                "Weights and config must be of one model.",
                where=entries[name].file,
            )
        dropped.append(name)
    return dropped


def _is_of_a_quantiser(name: str) -> bool:
    return name.rpartition(".")[2] in _QUANTISED


def _quantised(name: str, entries: Mapping[str, Entry]) -> ModelError:
    return ModelError(
        f"holds {name}, so the model is quantised; full fine-tuning needs its unquantised files. Take those.",
        where=entries[name].file,
    )
