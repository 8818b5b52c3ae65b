"""The published formats: a row of each is trained with the right tokens by role, found by others' code alone.

`tests/assets/published.json` holds a row in the shape of each, what the template must be given of it, and its spans.
What they become is compared with the template run by jinja2 and the text cut by the tokenizers library. The table of
engine/data/FORMATS.md is made from the same rows; this makes it again:

    python tests/engine/data/test_published.py --write
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = json.loads((ROOT / "tests/assets/published.json").read_text(encoding="utf-8"))
TABLE = ROOT / "engine/data/FORMATS.md"
TEXT = """# The rows that are read, and what becomes of them

Made from the rows of `tests/assets/published.json`, which the tests train, by
`python tests/engine/data/test_published.py --write`. A column or key that is not read is told at the start of a run,
and refuses the row where it changes what the row means. Flags are those of training; `--data.columns` names columns
that have other names than these.

| shape | the row | turns of the prompt | spans | flags |
|---|---|---|---|---|
"""


def table() -> str:
    """Return the text of FORMATS.md."""
    lines = []
    for case in PUBLISHED:
        flags = " ".join(f"`--data.{name.replace('_', '-')} '{value}'`" for name, value in case["flags"].items())
        roles = " ".join(role for role, text in case["spans"] if text) or "none"
        more = f", weight {case['weight']:g}" if "weight" in case else ""
        turns = " ".join(turn["role"] for turn in case["turns"]) or "none"
        cells = (case["name"], f"`{shape(case['row'])}`", turns, roles + more, flags)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return TEXT + "\n".join(lines) + "\n"


def shape(value: Any) -> str:
    """Return the keys of a row, and of its turns, without its texts."""
    if isinstance(value, dict):
        parts = (key if isinstance(item, str) else f"{key}: {shape(item)}" for key, item in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dict.fromkeys(shape(item) for item in value)) + "]"
    return "null" if value is None else "text" if isinstance(value, str) else "number"


def expected(case: dict[str, Any], template: str, specials: dict[str, str], eos: str) -> list[tuple[str, str]]:
    """Return the (role, text) parts of the case: the template run by jinja2, the rest written down here."""
    if not case["turns"]:
        return [("unsegmented", case["spans"][0][1]), ("end", eos)]
    prompt = render(template, case, specials, opens=False)
    opening = render(template, case, specials, opens=True)[len(prompt) :]
    parts = [("prompt", prompt), ("opening", opening)]
    spans = [(role, text) for role, text in case["spans"]]
    before = [span for span in spans if span[0] not in ("answer", "unsegmented")]
    after = [span for span in spans if span[0] in ("answer", "unsegmented")]
    if "</think>" in opening:
        return [*parts, *(("answer", text) for _, text in after), ("end", eos)]
    if not opening.rstrip().endswith("<think>"):
        parts.append(("think", "<think>\n"))
    line = "\n" if before or parts[-1][0] == "think" else ""
    return [*parts, *before, ("closing", f"{line}</think>" + ("\n\n" if after else "")), *after, ("end", eos)]


def render(template: str, case: dict[str, Any], specials: dict[str, str], *, opens: bool) -> str:
    """Return what the template writes, with the switches that training gives every template."""
    from jinja2 import ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols])
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    switches = {"enable_thinking": True, "open_thinking": True, "thinking": True} | case.get("switches", {})
    values = {"messages": case["turns"], "tools": case.get("tools"), "add_generation_prompt": opens}
    return environment.from_string(template).render(**values, **switches, **specials)


@pytest.fixture(scope="session")
def folder_for(
    request: pytest.FixtureRequest, small_tokenizer_folder: Callable[[str], Path]
) -> Callable[[str], tuple[Path, Path]]:
    """Return a function that gives the files of tokenizer and config of a tokenizer."""

    def find(name: str) -> tuple[Path, Path]:
        if name in ("r1", "qwen3"):
            folder = request.getfixturevalue("shared_data") / "tokenizers"
            folder /= "deepseek-r1-distill-qwen" if name == "r1" else "qwen3"
            config = "tokenizer_config.think.json" if name == "r1" else "tokenizer_config.json"
            return folder / "tokenizer.json", folder / config
        folder = small_tokenizer_folder(name)
        return folder / "tokenizer.json", folder / "tokenizer_config.json"

    return find


@pytest.mark.parametrize("name", ["bytes-opened", "bytes", "pieces-plain-tags", "r1", "qwen3"])
@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["name"])
def test_a_row_is_trained_with_the_right_tokens_by_role(
    case: dict[str, Any], name: str, folder_for: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from alttrain.engine.config import DataConfig, LossConfig
    from alttrain.engine.data.dataset import load_dataset
    from alttrain.engine.errors import DataError
    from alttrain.engine.trace.roles import ROLES

    tokenizer_file, config_file = folder_for(name)
    raw = Tokenizer.from_file(str(tokenizer_file))
    settings = json.loads(config_file.read_text(encoding="utf-8"))
    jinja = tokenizer_file.with_name("chat_template.jinja")
    template = jinja.read_text(encoding="utf-8") if jinja.exists() else settings["chat_template"]
    specials = {}
    for key in ("bos_token", "eos_token"):
        token = settings.get(key)
        specials[key] = token["content"] if isinstance(token, dict) else token or ""
    ours = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), **specials)
    ours.chat_template = template
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(case["row"]) + "\n", encoding="utf-8")
    if case.get("needs", name) != name:
        # What a template cannot write is refused, by the name of the key that the row has it in.
        with pytest.raises(
            DataError, match=r"rows\.jsonl:1: .*(tools|tool calls|tool_calls|chat_template_kwargs|tool)"
        ):
            load_dataset([str(rows)], DataConfig(**case["flags"]), LossConfig(), ours, 4096)
        return
    dataset = load_dataset([str(rows)], DataConfig(**case["flags"]), LossConfig(), ours, 4096)
    (example,) = dataset.examples
    parts = [part for part in expected(case, template, specials, specials["eos_token"]) if part[1]]
    encoding = raw.encode("".join(text for _, text in parts), add_special_tokens=False)
    assert example.input_ids == encoding.ids
    if name != "pieces-plain-tags":  # whose offsets are those of a text with marked spaces
        owners = [role for role, text in parts for _ in text]
        assert [ROLES[span_id] for span_id in example.span_ids] == [owners[end - 1] for _, end in encoding.offsets]
    assert example.weight == case.get("weight", 1.0)
    assert list(dataset.report.unread) == case.get("unread", [])


def test_the_table_is_made_from_these_rows() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(), (
        "make it again: python tests/engine/data/test_published.py --write"
    )


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    TABLE.write_text(table(), encoding="utf-8")
