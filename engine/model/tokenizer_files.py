"""The tokenizer's files of an exported model: the source's own, changed only where they would not load as was trained.

They are put together before training and tried out in a folder of their own, so that what a server's AutoTokenizer
makes of them is known from the start: the ids of tokenizer.json, under transformers 4.57 and 5.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alttrain.engine.data.template_text import THINKING
from alttrain.engine.data.tokenizer import BOM, differing_probe
from alttrain.engine.errors import ModelError
from alttrain.engine.model.config_files import read_object
from alttrain.engine.model.templates import (
    NONE,
    opens_alike,
    templates_of,
    think_by_default,
    write_default,
    writes_alike,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
LEGACY = ("special_tokens_map.json", "added_tokens.json")
OWN_FILES = ("tokenizer.json", SETTINGS, *LEGACY, "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", TEMPLATE)

READS_THE_FILE = "PreTrainedTokenizerFast"
# Classes that 4.57 and 5 know by the same name, and the special tokens that they add where the settings name none.
# Every other class is replaced by the one that reads tokenizer.json as it is.
KNOWN_CLASSES: Mapping[str, Mapping[str, str]] = {
    "LlamaTokenizer": {"unk_token": "<unk>", "bos_token": "<s>"},
    "Qwen2Tokenizer": {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    "GPT2Tokenizer": {"unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>"},
    READS_THE_FILE: {},
}
CLASS_OF_FAMILY = {"llama": "LlamaTokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}
# Settings by which transformers changes what it reads from tokenizer.json, or reads another file.
CHANGE_IDS = (
    "add_prefix_space", "added_tokens_decoder", "additional_special_tokens", "auto_map", "do_lower_case",
    "extra_special_tokens", "fast_tokenizer_files", "from_slow", "legacy", "sp_model_kwargs", "split_special_tokens",
    "tokenizer_file", "tokenizer_object", "vocab_file",
)  # fmt: skip

# transformers 5 replaces the class of a Qwen 2 model's tokenizer whatever tokenizer_config.json says, unless it names a
# class of the folder's own. Readers who do not trust code from the folder get PreTrainedTokenizerFast.
CLASS_FILE = "tokenizer_of_file.py"
CLASS_CODE = '''"""The tokenizer that reads tokenizer.json as it is: transformers 5 would replace its pre-tokenizer."""

from transformers import PreTrainedTokenizerFast


class TokenizerOfFile(PreTrainedTokenizerFast):
    """Nothing is added to what tokenizer.json holds."""
'''
CLASS_NAME = "tokenizer_of_file.TokenizerOfFile"


@dataclass(frozen=True)
class TokenizerFiles:
    """What OUT/model gets of the tokenizer."""

    contents: Mapping[str, bytes]
    """By name, relative to OUT/model."""
    notes: tuple[str, ...]
    """Sentences about what is not as in the source folder."""


def tokenizer_files(
    folder: Path, tokenizer: Any, *, config: str, asked_template: bool, variables: Mapping[str, Any] = NONE
) -> TokenizerFiles:
    """Return the tokenizer's files of the export, which a server's AutoTokenizer reads as this run trains.

    Args:
        folder: the source.
        tokenizer: as `load_tokenizer` gives it, with the template that is trained with.
        config: the export's config.json, by which AutoTokenizer chooses a class.
        asked_template: whether the template is not the folder's own.
        variables: what training gives the template beside the switches of its own.

    Raises:
        ModelError: tokenizer_config.json is no JSON object, or AutoTokenizer would give other ids whatever it says.
    """
    source = read_object(folder / SETTINGS)
    contents = {name: (folder / name).read_bytes() for name in OWN_FILES if (folder / name).is_file()}
    for file in sorted((folder / TEMPLATES).glob("*.jinja")):
        contents[f"{TEMPLATES}/{file.name}"] = file.read_bytes()
    settings = dict(source)
    templates, notes = _exported_templates(tokenizer, variables)
    if asked_template or templates != templates_of(tokenizer) or BOM.encode() in _texts(contents):
        _put_templates(contents, settings, templates)

    if "auto_map" in source:
        notes.append(f"{SETTINGS} names code of its own (auto_map), which is not run: OUT/model is without it.")
    reason = _difference(contents, config, tokenizer)
    if reason:
        notes.append(
            f"transformers' AutoTokenizer gives other token ids than this folder's tokenizer.json ({reason}): "
            "training goes by tokenizer.json, and so does OUT/model."
        )
    for candidate in _candidates(contents, settings, tokenizer, json.loads(config)):
        unchanged = candidate == contents
        reason = reason if unchanged else _difference(candidate, config, tokenizer)
        if not reason:
            return TokenizerFiles(candidate, tuple(notes))
    raise ModelError(
        f"no tokenizer_config.json makes transformers read the ids of this tokenizer.json ({reason}). "
        "Give the model folder a tokenizer.json that belongs to its tokenizer_class.",
        where=folder,
    )


def _exported_templates(tokenizer: Any, variables: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return the templates that reason by default where training made them, and sentences about each change."""
    templates, notes = templates_of(tokenizer), []
    for name, template in list(templates.items()):
        templates[name], defaults = think_by_default(tokenizer, template, variables)
        which = "the chat template" if len(templates) == 1 else f"the chat template {name!r}"
        if defaults:
            named = " and ".join(f"{name} = {write_default(value)}" for name, value in defaults.items())
            notes.append(f"OUT/model reasons by default: {which} is trained with {named}, and now sets that itself.")
        elif not opens_alike(tokenizer, template, variables):
            notes.append(
                f"{which} writes other prompts without the switches it is trained with; a server that uses OUT/model "
                f"must give them: {json.dumps({**THINKING, **variables})}."
            )
    return templates, notes


def _texts(contents: Mapping[str, bytes]) -> bytes:
    """Return the files in which a chat template may stand, a byte order mark of JSON spelled out."""
    named = [content for name, content in contents.items() if name == SETTINGS or name.endswith(".jinja")]
    return b"".join(named).replace(b"\\ufeff", BOM.encode()).replace(b"\\uFEFF", BOM.encode())


def _put_templates(contents: dict[str, bytes], settings: dict[str, Any], templates: Mapping[str, str]) -> None:
    """Write the templates in both of their places: as files, which are preferred, and in tokenizer_config.json."""
    for name in [name for name in contents if name.endswith(".jinja")]:
        del contents[name]
    for name, template in templates.items():
        contents[TEMPLATE if name == "default" else f"{TEMPLATES}/{name}.jinja"] = template.encode()
    alone = templates.get("default") if len(templates) == 1 else None
    settings["chat_template"] = alone or [{"name": name, "template": text} for name, text in templates.items()]
    contents[SETTINGS] = _as_json(settings)


def _candidates(
    contents: Mapping[str, bytes], settings: Mapping[str, Any], tokenizer: Any, model: Mapping[str, Any]
) -> Iterator[dict[str, bytes]]:
    """Yield sets of files, the one nearest to `contents` first, whose tokenizer_config.json holds `settings`."""
    named = {*settings, *json.loads(contents.get(LEGACY[0], b"{}"))}
    for_both = _for_both_versions(settings, tokenizer, model, named)
    changed = {} if for_both == settings else {SETTINGS: _as_json(for_both)}
    yield {**contents, **changed}
    # Without the legacy files, whose special tokens are in the settings now.
    plain = {name: content for name, content in contents.items() if name not in LEGACY}
    plain_settings = _plain_settings(settings, tokenizer)
    yield {**plain, SETTINGS: _as_json(plain_settings)}
    plain_settings["auto_map"] = {"AutoTokenizer": [None, CLASS_NAME]}
    yield {**plain, SETTINGS: _as_json(plain_settings), CLASS_FILE: CLASS_CODE.encode()}


def _for_both_versions(
    settings: Mapping[str, Any], tokenizer: Any, model: Mapping[str, Any], named: Set[str]
) -> dict[str, Any]:
    """Return settings that 4.57 reads as 5 does, and by which it leaves the pre-tokenizer of tokenizer.json alone.

    `named` are the keys of all the files in which special tokens are named.
    """
    changed = dict(settings)
    extra = changed.get("extra_special_tokens")
    if isinstance(extra, list):  # 4.57 reads a mapping there
        del changed["extra_special_tokens"]
        known = changed.get("additional_special_tokens") or []
        changed["additional_special_tokens"] = [*known, *(token for token in extra if token not in known)]
    prefix = _prefix_space(tokenizer.backend_tokenizer)
    if prefix is not None and bool(changed.get("add_prefix_space")) != prefix:
        changed["add_prefix_space"] = prefix  # 4.57 would set the pre-tokenizer's to that of the settings
    changed.pop("auto_map", None)
    for key in ("bos_token", "eos_token"):
        if key not in named and key in tokenizer.special_tokens_map:  # a default of one class, and not of every other
            changed[key] = tokenizer.special_tokens_map[key]
    if not _is_kept(changed, tokenizer, model, named | set(changed)):
        changed["tokenizer_class"] = READS_THE_FILE
    return changed


def _is_kept(settings: Mapping[str, Any], tokenizer: Any, model: Mapping[str, Any], named: Set[str]) -> bool:
    """Return whether 4.57 reads tokenizer.json as it is with the class that the settings or the model name."""
    name = settings.get("tokenizer_class") or model.get("tokenizer_class") or CLASS_OF_FAMILY[model["model_type"]]
    base = name if name == READS_THE_FILE else str(name).removesuffix("Fast")
    if base not in KNOWN_CLASSES:
        return False
    for key, default in KNOWN_CLASSES[base].items():
        # It would add the token, or a template would write a beginning that it was not trained with.
        if key not in named and (key == "bos_token" or tokenizer.backend_tokenizer.token_to_id(default) is None):
            return False
    if base != "LlamaTokenizer":
        return True
    # With these 4.57 builds a LlamaTokenizer anew from other files, or fails.
    is_built_anew = settings.get("add_prefix_space") is not None or tokenizer.bos_token is None
    return not is_built_anew and _is_of_pieces(tokenizer.backend_tokenizer)


def _is_of_pieces(raw: "Tokenizer") -> bool:
    """Return whether texts are cut as by SentencePiece, as the first versions of 5 do with every LlamaTokenizer.

    They put Metaspace in the place of another pre-tokenizer, as 5.17 does with DeepSeek's of the Llama 3 models.
    """
    return raw.pre_tokenizer is None or json.loads(raw.pre_tokenizer.__getstate__()).get("type") == "Metaspace"


def _plain_settings(settings: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return settings with which every version takes tokenizer.json as it is."""
    raw: Tokenizer = tokenizer.backend_tokenizer
    named = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    kept = {
        name: value
        for name, value in settings.items()
        if name not in CHANGE_IDS and not (name.endswith("_token") and not isinstance(value, bool))
    }
    kept |= {name: token for name, token in named.items() if raw.token_to_id(token) is not None}
    prefix = _prefix_space(raw)
    return kept | {"tokenizer_class": READS_THE_FILE} | ({} if prefix is None else {"add_prefix_space": prefix})


def _prefix_space(raw: "Tokenizer") -> bool | None:
    """Return whether the pre-tokenizer puts a space before a text; None if that is no setting of its outermost part."""
    value = json.loads(raw.pre_tokenizer.__getstate__()).get("add_prefix_space") if raw.pre_tokenizer else None
    return value if isinstance(value, bool) else None


def _difference(contents: Mapping[str, bytes], config: str, tokenizer: Any) -> str:
    """Return how AutoTokenizer differs from tokenizer.json when it reads these files; empty where it does not."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as name:
        write_contents(Path(name), {**contents, "config.json": config.encode()})
        try:
            loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            probe = differing_probe(tokenizer.backend_tokenizer, loaded)
            end, largest = loaded.eos_token_id, max(loaded.get_vocab().values())
        except Exception as error:  # its classes fail in dozens of ways
            return f"it fails with {type(error).__name__}"
    if probe is not None:
        return f"for one, of {probe[:40]!r}"
    if not all(writes_alike(tokenizer, loaded, template) for template in templates_of(loaded).values()):
        return "the chat template writes other special tokens with it"
    if end != tokenizer.eos_token_id:
        return f"its end token is {end}, not {tokenizer.eos_token_id}"
    rows = json.loads(config)["vocab_size"]
    return f"it adds the id {largest} to a model of {rows} embedding rows" if largest >= rows else ""


def write_contents(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write each file into the folder, those of folders inside it too."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _as_json(settings: Mapping[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()
