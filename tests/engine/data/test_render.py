"""Text to tokens, on small tokenizers of every kind and on real ones: every token has one role, and the right one."""

import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import AutoTokenizer

from alttrain.engine.data.render import SPAN_IDS, Renderer
from alttrain.engine.data.rows import read_rows
from alttrain.engine.errors import DataError, ModelError
from alttrain.engine.trace.roles import ROLES, Example, Message, Row, Span
from small_tokenizers import SMALL_TOKENIZERS

TEMPLATE = "{% for m in messages %}{{ '<s>' + m.role + ': ' + m.content + '\\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ '<s>assistant:\\n' }}{% endif %}"
)
# What the chat template of each tokenizer writes of the reasoning's opening.
REAL = {
    "r1-qwen": "",
    "r1-qwen-think": "<think>\n",
    "r1-llama": "<think>\n",
    "qwen3": "",
    "minimind": "<think>\n",
    "stories260K": "",
}
OPENINGS = {name: kind.opening for name, kind in SMALL_TOKENIZERS.items()} | REAL
NAMES = tuple(OPENINGS)
EXACT = NAMES[:-1]  # those whose tokens decode to the text they came from
BYTE_LEVEL = [name for name in EXACT if name in REAL or SMALL_TOKENIZERS[name].is_byte_level]
Load = Callable[[str], Any]

FULL = (
    Span("understanding", "The user asks for a sum."),
    Span("assessment", " It is harmless."),
    Span("reasoning", " So 1 + 1 is 2."),
    Span("answer", "It is 2."),
)


def make_row(*spans: Span, prompt: str = "What is 1 + 1?") -> Row:
    return Row("a", "", (Message("user", prompt),), spans, "", "f.jsonl:7")


@pytest.fixture(scope="session")
def load(
    request: pytest.FixtureRequest,
    small_tokenizer_folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Load:
    @cache
    def load_once(name: str) -> Any:
        if name in SMALL_TOKENIZERS:
            return AutoTokenizer.from_pretrained(small_tokenizer_folder(name))
        folders = {
            "r1-qwen": "tokenizers/deepseek-r1-distill-qwen",
            "r1-qwen-think": "tokenizers/deepseek-r1-distill-qwen",
            "r1-llama": "tokenizers/deepseek-r1-distill-llama",
            "qwen3": "tokenizers/qwen3",
            "minimind": "tokenizers/minimind-6400",
            "stories260K": "weights/stories260K/hf",
        }
        folder = request.getfixturevalue("shared_data") / folders[name]
        if name == "r1-qwen-think":
            copy = tmp_path_factory.mktemp(name) / "tokenizer"
            shutil.copytree(folder, copy)
            shutil.copyfile(folder / "tokenizer_config.think.json", copy / "tokenizer_config.json")
            folder = copy
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if name == "stories260K":
            tokenizer.chat_template = TEMPLATE
        return tokenizer

    return load_once


@pytest.fixture(scope="session")
def rows_for(request: pytest.FixtureRequest, asset_rows: Path) -> Callable[[str], list[Row]]:
    """Return a function that gives the rows to try a tokenizer on: for a real one, a hundred real ones too."""
    few = read_rows((str(asset_rows),)).rows

    @cache
    def rows(name: str) -> list[Row]:
        if name in SMALL_TOKENIZERS:
            return few
        return few + read_rows((str(request.getfixturevalue("shared_data") / "train/STAR-1.json"),)).rows[:100]

    return rows


@pytest.fixture(scope="session")
def changeable(load: Load) -> Callable[[], Any]:
    """Return a function that loads a tokenizer of one's own to change; its template opens the reasoning."""
    return lambda: AutoTokenizer.from_pretrained(load("bytes-opened").name_or_path)


def tokenize(tokenizer: Any, row: Row) -> Example:
    renderer = Renderer(tokenizer)
    (example,) = renderer.tokenize([renderer.render(row)])
    if isinstance(example, DataError):
        raise example
    return example


def decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def decode_role(tokenizer: Any, example: Example, role: str) -> str:
    """Return what the tokens of a role add to the text before them; decoded alone, some lose their first space."""
    texts = []
    for index, span_id in enumerate(example.span_ids):
        if ROLES[span_id] == role and (index == 0 or example.span_ids[index - 1] != span_id):
            end = next((i for i in range(index, len(example.span_ids)) if example.span_ids[i] != span_id), None)
            before = decode(tokenizer, example.input_ids[:index])
            texts.append(decode(tokenizer, example.input_ids[:end])[len(before) :])
    return "".join(texts)


def normalised(tokenizer: Any, text: str) -> str:
    """Return the text that a tokenizer makes of a text before it cuts it."""
    normaliser = tokenizer.backend_tokenizer.normalizer
    return str(normaliser.normalize_str(text)) if normaliser else text


@pytest.mark.parametrize("name", NAMES)
def test_every_token_of_a_row_has_one_role_in_the_order_of_the_spans(
    name: str, load: Load, rows_for: Callable[[str], list[Row]]
) -> None:
    tokenizer, renderer = load(name), Renderer(load(name))
    rendered = [renderer.render(row) for row in rows_for(name)]
    for r, example in zip(rendered, renderer.tokenize(rendered), strict=True):
        assert isinstance(example, Example)
        assert len(example.input_ids) == len(example.span_ids)
        order = [span_id for _, span_id in r.parts]
        # Roles come in the order of the parts; a part may lose all its tokens to the next, none comes twice.
        changes = [s for i, s in enumerate(example.span_ids) if i == 0 or s != example.span_ids[i - 1]]
        parts = iter(order)
        assert all(span_id in parts for span_id in changes)
        assert example.input_ids[-1] == tokenizer.eos_token_id
        assert example.span_ids.count(SPAN_IDS["end"]) == 1
        given = {SPAN_IDS["prompt"], SPAN_IDS["opening"]}
        if not r.row.messages:
            assert not given & set(example.span_ids)
            continue
        prompt = tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in r.row.messages],
            add_generation_prompt=True,
            return_dict=False,
            open_thinking=True,
        )
        assert example.input_ids[: len(prompt)] == prompt
        assert set(example.span_ids[: len(prompt)]) == given
        assert not given & set(example.span_ids[len(prompt) :])


@pytest.mark.parametrize("name", EXACT)
def test_the_tokens_spell_the_row(name: str, load: Load, rows_for: Callable[[str], list[Row]]) -> None:
    tokenizer, renderer = load(name), Renderer(load(name))
    rendered = [renderer.render(row) for row in rows_for(name)]
    for r, example in zip(rendered, renderer.tokenize(rendered), strict=True):
        assert isinstance(example, Example)
        # Only the verdict is asserted on: a failing test must not print a row.
        is_spelt = decode(tokenizer, example.input_ids) == normalised(tokenizer, r.text)
        spans = "".join(span.text for span in r.row.spans)
        is_whole = r.text.endswith(tokenizer.eos_token) and spans in re.sub(r"\n?</think>(\n\n)?", "", r.text)
        assert is_spelt, r.row.where
        assert is_whole, r.row.where


@pytest.mark.parametrize("name", EXACT)
def test_a_token_across_a_seam_belongs_to_the_later_span(
    name: str, load: Load, rows_for: Callable[[str], list[Row]]
) -> None:
    """Checked without offsets: by the length of what the tokens before each seam spell."""
    tokenizer, renderer = load(name), Renderer(load(name))
    rendered = [renderer.render(row) for row in rows_for(name)[:70]]
    rendered = [r for r in rendered if r.text == unicodedata.normalize("NFC", r.text)]
    assert len(rendered) >= 28
    for r, example in zip(rendered, renderer.tokenize(rendered), strict=True):
        assert isinstance(example, Example)
        seams = [i for i in range(1, len(example.span_ids)) if example.span_ids[i] != example.span_ids[i - 1]]
        for seam in seams:
            earlier = decode(tokenizer, example.input_ids[:seam])
            assert _role_at(r.parts, len(earlier) - 1) == example.span_ids[seam - 1]
            # The next character, which may be several tokens: until it is whole they spell U+FFFD.
            ends = range(seam + 1, len(example.input_ids) + 1)
            texts = (decode(tokenizer, example.input_ids[:end]) for end in ends)
            with_next = next(text for text in texts if not text.endswith("\ufffd"))
            assert _role_at(r.parts, len(with_next) - 1) == example.span_ids[seam]


def _role_at(parts: tuple[tuple[int, int], ...], character: int) -> int:
    return next(span_id for end, span_id in parts if character < end)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_row(name: str, load: Load) -> None:
    """The template's prompt, the reasoning opened once, closed once, the answer, the end."""
    tokenizer = load(name)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 1 + 1?"}], tokenize=False, add_generation_prompt=True, open_thinking=True
    )
    opening = OPENINGS[name]
    assert prompt.endswith(opening)
    assert ("<think>" in prompt) == (opening != "")
    opened = prompt + ("" if opening else "<think>\n")
    eos = tokenizer.eos_token
    think, answer = "The user asks for a sum. It is harmless. So 1 + 1 is 2.", "It is 2."
    renderer = Renderer(tokenizer)
    assert renderer.render(make_row(*FULL)).text == f"{opened}{think}\n</think>\n\n{answer}{eos}"
    assert renderer.render(make_row(*FULL[:3])).text == f"{opened}{think}\n</think>{eos}"
    after = make_row(FULL[0], FULL[2], FULL[3], FULL[1])
    assert (
        renderer.render(after).text == f"{opened}{think[:24]}{think[-15:]}\n</think>\n\n{answer} It is harmless.{eos}"
    )
    empty_answer = make_row(*FULL[:3], Span("answer", ""))
    assert renderer.render(empty_answer).text == f"{opened}{think}\n</think>\n\n{eos}"
    # Where the template wrote the line break, a second would make one token with it, and the prompt no prefix.
    line = "" if opening else "\n"
    assert renderer.render(make_row(FULL[3])).text == f"{opened}{line}</think>\n\n{answer}{eos}"


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    "spans",
    [FULL, FULL[:3], FULL[3:], (FULL[0], FULL[2], FULL[3], FULL[1])],
    ids=("full", "no-answer", "empty", "after"),
)
def test_roles_hold_their_own_text(name: str, spans: tuple[Span, ...], load: Load) -> None:
    tokenizer = load(name)
    example = tokenize(tokenizer, make_row(*spans))
    for span in spans:
        # At most the last mark goes to the closing, with which some tokenizers join it.
        text = decode_role(tokenizer, example, span.role)
        assert span.text in (text, f"{text}.")
    assert decode_role(tokenizer, example, "closing").strip(".\n") == "</think>"
    assert decode_role(tokenizer, example, "end") == tokenizer.eos_token
    assert decode_role(tokenizer, example, "opening").endswith(OPENINGS[name])
    assert decode_role(tokenizer, example, "think").startswith("<think>") == (OPENINGS[name] == "")
    assert ("<think>" in decode_role(tokenizer, example, "opening")) == (OPENINGS[name] != "")


@pytest.mark.parametrize("name", EXACT)
def test_plain_text_is_its_text_and_the_end(name: str, load: Load) -> None:
    # A tokenizer of marked spaces does not tell one space at the start of a text from none.
    tokenizer, text = load(name), ("  " if name in BYTE_LEVEL else "") + "It rains.\n\nIt pours. "
    row = Row("a", "", (), (Span("unsegmented", text),), "", "f.jsonl:7")
    example = tokenize(tokenizer, row)
    assert Renderer(tokenizer).render(row).text == text + tokenizer.eos_token
    assert decode(tokenizer, example.input_ids[:-1]) == text
    assert example.input_ids[-1] == tokenizer.eos_token_id
    num_text = len(example.input_ids) - 1
    assert example.span_ids == [SPAN_IDS["unsegmented"]] * num_text + [SPAN_IDS["end"]]


@pytest.mark.parametrize("name", ["pieces-plain-tags", "pieces-half-opened", "r1-qwen", "r1-llama"])
def test_bos_is_written_once(name: str, load: Load) -> None:
    assert load(name)("a")["input_ids"][0] == load(name).bos_token_id or name == "r1-qwen"  # else the template's alone
    assert tokenize(load(name), make_row(*FULL)).input_ids.count(load(name).bos_token_id) == 1


@pytest.mark.parametrize("name", ["bytes", "r1-qwen"])
def test_eos_that_pads_is_an_end_only_where_it_ends(name: str, load: Load) -> None:
    """Earlier turns end in the same id; it is prompt all the same."""
    tokenizer = load(name)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    turns = (Message("user", "Hello?"), Message("assistant", "Yes."), Message("user", "Bye?"))
    example = tokenize(tokenizer, Row("a", "", turns, FULL, "", "f:1"))
    roles = [ROLES[s] for t, s in zip(example.input_ids, example.span_ids, strict=True) if t == tokenizer.eos_token_id]
    assert roles == [*["prompt"] * (3 if name == "bytes" else 1), "end"]


@pytest.mark.parametrize("name", ["pieces-plain-tags", "stories260K"])
def test_think_of_several_tokens(name: str, load: Load) -> None:
    tokenizer = load(name)
    example = tokenize(tokenizer, make_row(*FULL))
    assert example.span_ids.count(SPAN_IDS["think"]) > 1
    assert "<think>" in decode_role(tokenizer, example, "think")


@pytest.mark.parametrize("name", ["bytes-opened", "bytes-plain-tags", "r1-qwen", "minimind"])
def test_trimmed_offsets_change_no_role(name: str, load: Load, rows_for: Callable[[str], list[Row]]) -> None:
    """GPT-2's and Llama 3's own tokenizers leave white space out of their offsets."""
    trimming = AutoTokenizer.from_pretrained(load(name).name_or_path)
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    offsets = trimming(["a b"], return_offsets_mapping=True)["offset_mapping"][0]
    assert offsets == [(0, 1), (2, 3)], "the tokenizer of this test must trim"
    across = (
        Span("understanding", "A sum (of two)\n\n"),
        Span("reasoning", "  \n   It\t is   2. \n"),
        Span("answer", " 2 \n"),
    )
    indented = (Span("understanding", "A sum.\n"), Span("reasoning", "    It is 2.\n"), Span("answer", "2"))
    for row in (make_row(*across), make_row(*indented), make_row(*FULL), *rows_for(name)[:50]):
        is_equal = tokenize(trimming, row) == tokenize(load(name), row)
        assert is_equal, row.where


@pytest.mark.parametrize(("opened", "unopened"), [("bytes-opened", "bytes"), ("r1-qwen-think", "r1-qwen")])
def test_a_prompt_that_is_not_a_prefix_is_refused(opened: str, unopened: str, load: Load) -> None:
    with pytest.raises(DataError) as error:
        tokenize(load(opened), make_row(Span("reasoning", "\nIt is 2."), FULL[3]))
    assert str(error.value).startswith("f.jsonl:7: the prompt's token ids are not a prefix of the row's,")
    tokenize(load(unopened), make_row(Span("reasoning", "\nIt is 2."), FULL[3]))


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_stand_in_no_text(name: str, load: Load) -> None:
    renderer, token = Renderer(load(name)), load(name).eos_token
    for row, place in (
        (make_row(*FULL, prompt=f"a {token} b"), "the prompt"),
        (make_row(Span("reasoning", f"a{token}"), FULL[3]), "spans[0] (reasoning)"),
        (Row("a", "", (), (Span("unsegmented", f"a{token}"),), "", "f.jsonl:7"), "text"),
    ):
        with pytest.raises(DataError) as error:
            renderer.render(row)
        assert str(error.value) == (
            f"f.jsonl:7: {place} holds {token!r}, a token with a meaning of its own to this tokenizer. Take it out."
        )


def test_added_tokens_of_white_space_are_text(changeable: Callable[[], Any]) -> None:
    tokenizer = changeable()
    tokenizer.add_tokens(["\n\n", "    "])
    example = tokenize(tokenizer, make_row(Span("reasoning", "a\n\nb    c"), FULL[3]))
    assert decode_role(tokenizer, example, "reasoning") == "a\n\nb    c"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template": None}, "the tokenizer has no chat template, which writes the prompt. Give one with"),
        ({"eos_token": None}, "the tokenizer has no end-of-sequence token, which every row ends in."),
        ({"chat_template": "{% if %}"}, "the chat template refuses the conversation ("),
        ({"chat_template": "{{ raise_exception('no\nway') }}"}, "the chat template refuses the conversation (no way)."),
        (
            {"chat_template": "{% if add_generation_prompt %}b{% else %}a{% endif %}"},
            "the chat template changes the prompt when it opens the assistant's turn. Give one with --data.",
        ),
        (
            {"chat_template": "a{% if add_generation_prompt %}<think>\n\n</think>{% endif %}"},
            "the chat template closes the reasoning before the model can begin it. Give it the variable that opens it, "
            "with --data.chat-template-kwargs, or another template, with --data.chat-template.",
        ),
    ],
)
def test_tokenizers_that_cannot_be_trained_with(
    changes: dict[str, Any], message: str, changeable: Callable[[], Any]
) -> None:
    tokenizer = changeable()
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    with pytest.raises(ModelError) as error:
        Renderer(tokenizer)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_slow_tokenizer_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(load("bytes")), "is_fast", property(lambda self: False))
    with pytest.raises(ModelError, match=r"^the tokenizer is a slow one"):
        Renderer(load("bytes"))


def test_a_template_may_refuse_a_row(changeable: Callable[[], Any]) -> None:
    tokenizer = changeable()
    tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}" + (
        "{% endif %}{{ m.content }}{% endfor %}"
    )
    turns = (Message("system", "Be kind."), Message("user", "Hello?"))
    with pytest.raises(DataError) as error:
        Renderer(tokenizer).render(Row("a", "", turns, FULL, "", "f.jsonl:7"))
    assert str(error.value) == (
        "f.jsonl:7: the chat template refuses the conversation (no system). Leave such rows out with "
        "--data.on-bad-row skip, or give another template with --data.chat-template."
    )


@pytest.mark.parametrize("name", ["r1-qwen", "r1-llama", "qwen3"])
def test_ids_are_those_that_others_found(name: str, shared_data: Path, load: Load) -> None:
    vectors = json.loads((shared_data / "tokenizers/golden_vectors.json").read_text(encoding="utf-8"))
    folder = {"r1-qwen": "deepseek-r1-distill-qwen", "r1-llama": "deepseek-r1-distill-llama"}.get(name, name)
    for vector in vectors[folder]:
        bos = [load(name).bos_token_id] if name == "r1-llama" else []
        ids = load(name)(vector["text"], add_special_tokens=False)["input_ids"]
        assert vector["ids"] in (ids, bos + ids)
