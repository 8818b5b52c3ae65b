"""The tokenizer of a model folder, with the ids that its tokenizer.json gives.

transformers 5 builds some tokenizers anew from the vocabulary of tokenizer.json, with a normalizer, a pre-tokenizer and
a decoder that belong to the class (Qwen2Tokenizer, LlamaTokenizer and others). Where the file's own are different ones,
the ids are not those that the model was pre-trained on. Here the file is always the one that tokenises; transformers
adds the chat template and the names of the special tokens.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alttrain.engine.errors import ModelError
from alttrain.engine.thinking import MARKS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOM = "\ufeff"
HUB_FILES = ("*.json", "*.jinja", "tokenizer.model", "*.txt")

# What tokenizers treat differently: digits, runs of white space, contractions, both forms of accents, scripts, code.
PROBES = (
    "In 1989 and 2024 there were 1234567 of them, 12.5% more: 3,000,000.",
    "1 22 333 4444 55555 0x1F 1e-5 ²³ ٣٤ ½",
    "I'm sure they'll say it's what we've DON'T'd; O'Neil's  'tis",
    "  two spaces   three\ttab\t\ttabs\n\nlines\r\n \n  indented   ",
    " a", "a ", "\n", " \n ", "   ", "\t",
    "café naïve Ångström ﬁ ＡＢＣ ①",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "日本語の文章です。中文字符,没有空格。한국어 문장",
    "Привет мир, Γειά σου, שלום עולם, नमस्ते दुनिया, สวัสดี",
    "def f(x: int) -> int:\n    return x ** 2  # comment\n\n\tif a_b != C.d: pass",
    "🙂👩‍👩‍👧 🇪🇺 e\u200bf\u00a0g\u2028h",
    f"{MARKS.open}\nSo.\n{MARKS.close}\n\nHello, world! ... -- https://example.org/a?b=c&d=%20",
    "▁ ▁▁a Ġ <0x0A> <s> </s> <unk> <|endoftext|> camelCaseWords ALLCAPS mixedUP123abc",
)  # fmt: skip


def load_tokenizer(folder: Path) -> Any:
    """Return transformers' fast tokenizer of a folder, which tokenises as its tokenizer.json says and in no other way.

    The special tokens' names and the chat templates are those that transformers reads, without a byte order mark; a
    beginning or an end that no file of the folder names is the default of transformers' class if tokenizer.json holds
    it. A truncation or padding that tokenizer.json holds is left out.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    from transformers import PreTrainedTokenizerFast

    with reading(folder, "tokenizer"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        tokenizer._tokenizer = load_raw(folder)
        tokenizer.split_special_tokens = False
        for name, token in _defaults_of_the_class(folder, tokenizer._tokenizer).items():
            setattr(tokenizer, name, token)
        templates = tokenizer.chat_template
        if isinstance(templates, str):
            tokenizer.chat_template = templates.removeprefix(BOM)
        elif templates:
            tokenizer.chat_template = {name: text.removeprefix(BOM) for name, text in templates.items()}
    return tokenizer


def _defaults_of_the_class(folder: Path, raw: "Tokenizer") -> dict[str, str]:
    """Return the beginning and the end that AutoTokenizer's class gives a folder which names none, be it as null."""
    from transformers import AutoTokenizer

    files = [folder / name for name in ("tokenizer_config.json", "special_tokens_map.json")]
    named = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    missing = [name for name in ("bos_token", "eos_token") if not any(name in values for values in named)]
    if not missing:
        return {}
    try:
        tokens = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).special_tokens_map
    except Exception:  # its classes fail in dozens of ways, and then they give no default
        return {}
    return {name: tokens[name] for name in missing if name in tokens and raw.token_to_id(tokens[name]) is not None}


def fetch_tokenizer(name: str, flag: str) -> Any:
    """Return the tokenizer of a folder or a hub id, as `load_tokenizer` does.

    Args:
        name: the folder, or owner/name on the hub.
        flag: the setting that named it, for errors.

    Raises:
        ModelError: there is no tokenizer.json there, or it cannot be read.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
        except (OSError, ValueError) as error:
            raise ModelError(f"{name}: transformers finds no tokenizer there; give its folder.", flag=flag) from error
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{name}: no tokenizer.json there, so no tokenizer that says where a token stands; give a folder with one.",
            flag=flag,
        )
    return load_tokenizer(folder)


def load_raw(folder: Path) -> "Tokenizer":
    """Return what the tokenizers library alone reads from tokenizer.json, without truncation and padding."""
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    raw.no_truncation()
    raw.no_padding()
    return raw


def probes(raw: "Tokenizer") -> list[str]:
    """Return texts on which two tokenizers of one vocabulary differ if they do; every added token stands in them."""
    added = [token.content for token in raw.get_added_tokens_decoder().values()]
    return [*PROBES, *(f"a{token}b {token} c  {token}\n{token}1" for token in added)]


def differing_probe(raw: "Tokenizer", other: Any) -> str | None:
    """Return the first probe to which transformers' tokenizer `other` gives other ids than `raw`; None if all agree."""
    texts = probes(raw)
    theirs = other(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    ours = raw.encode_batch(texts, add_special_tokens=False)
    for text, right, ids in zip(texts, ours, theirs, strict=True):
        if right.ids != ids:
            return text
    return None


@contextmanager
def reading(folder: Path, part: str) -> Iterator[None]:
    """Turn whatever fails inside into a ModelError which says that `part` of the folder cannot be read."""
    try:
        yield
    except Exception as error:  # a broken file makes its readers fail in dozens of ways
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200]
        raise ModelError(
            f"transformers cannot read its {part} ({type(error).__name__}: {reason}). "
            "Fetch the model again, or mend the file.",
            where=folder,
        ) from error
