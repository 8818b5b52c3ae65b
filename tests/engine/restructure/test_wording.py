"""Wording from a file: the built-in one survives the way through it, and whatever cannot be used is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import ConfigError
from alttrain.engine.restructure import phrases
from alttrain.engine.restructure.wording import as_json, built_in, read_wording

FRAME = "This request is harmful: it asks for {kind}, and {reason}."


def small() -> dict[str, Any]:
    """Return a wording of one phrase a place, with one topic a label."""
    return {
        "harmful": {
            "frames": [FRAME],
            "topics": [
                {"names": ["scam"], "kinds": ["a trick"], "reasons": ["people lose"], "offers": ["Ask me else."]}
            ],
            "otherwise": {
                "kinds": ["a bad thing"],
                "reasons": ["it hurts"],
                "offers": ["Ask me else."],
                "turns": [" now."],
            },
            "decisions": ["So I will say no"],
            "turns": [", politely."],
            "refusals": ["I can't help with that."],
        },
        "benign": {
            "frames": ["This request is benign: it is {kind}, and {reason}."],
            "topics": [{"names": ["数学"], "kinds": ["a sum"], "reasons": ["it helps"]}],
            "otherwise": {"kinds": ["a question"], "reasons": ["it helps"]},
        },
    }


def read(tmp_path: Path, value: Any) -> Any:
    file = tmp_path / "phrases.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return read_wording(file)


def test_the_built_in_wording_survives_its_file(tmp_path: Path) -> None:
    assert read(tmp_path, as_json(built_in())) == built_in()
    assert read(tmp_path, "\ufeff" + as_json(built_in())) == built_in()


def test_a_small_wording(tmp_path: Path) -> None:
    wording = read(tmp_path, small())
    assert wording.topic("harmful", ("A SCAM or two",)).kinds == ("a trick",)
    assert wording.topic("benign", ("数学题",)).kinds == ("a sum",)
    assert wording.topic("benign", ()).kinds == ("a question",)
    assert (wording.topic("harmful", ("x",)).turns, wording.topic("harmful", ("scam",)).turns) == ((" now.",), ())


def test_general_phrases_are_for_what_no_topic_names() -> None:
    wording = built_in()
    assert wording.topic("harmful", ()) is wording.topic("harmful", ("no such",)) is phrases.ANY_HARM
    assert wording.topic("benign", ()) is wording.topic("benign", ("no such",)) is phrases.ANY_QUESTION


def test_chinese_wording(tmp_path: Path) -> None:
    """The rules know English and Chinese; another language reads as no verdict."""
    value = small()
    value["harmful"]["frames"] = ["这个请求有害，因为它要的是{kind}，而且{reason}。"]
    value["benign"]["frames"] = ["这个请求无害，它是{kind}，而且{reason}。"]
    assert read(tmp_path, value).frames["benign"] == ("这个请求无害，它是{kind}，而且{reason}。",)
    value["benign"]["frames"] = ["Das ist {kind}, und {reason}."]
    with pytest.raises(ConfigError, match=r"benign.frames\[0\] with benign.topics\[0\].kinds\[0\] reads as no verdict"):
        read(tmp_path, value)


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda v: v.pop("benign"), "the file lacks the key 'benign'"),
    (lambda v: v.update(other=1), "the file has an unknown key 'other'"),
    (lambda v: v["harmful"].pop("decisions"), "harmful lacks the key 'decisions'"),
    (lambda v: v["benign"].update(refusals=["x"]), "benign has an unknown key 'refusals'"),
    (lambda v: v["harmful"].update(topics={}), "harmful.topics is not a list"),
    (lambda v: v["harmful"].update(topics=["x"]), r"harmful.topics\[0\] is not an object"),
    (lambda v: v["harmful"]["topics"][0].pop("names"), r"harmful.topics\[0\] lacks the key 'names'"),
    (lambda v: v["harmful"]["topics"][0].update(names=[]), r"harmful.topics\[0\].names is an empty list"),
    (lambda v: v["harmful"]["otherwise"].update(names=["x"]), "harmful.otherwise has an unknown key 'names'"),
    (lambda v: v["benign"]["topics"][0].update(offers=["x"]), r"benign.topics\[0\] has an unknown key 'offers'"),
    (lambda v: v["harmful"].update(frames=[]), "harmful.frames is an empty list"),
    (lambda v: v["harmful"].update(turns="x"), "harmful.turns is not a list"),
    (lambda v: v["harmful"].update(refusals=[3]), r"harmful.refusals\[0\] is empty or no text"),
    (lambda v: v["harmful"].update(refusals=[" "]), r"harmful.refusals\[0\] is empty or no text"),
    (lambda v: v["harmful"].update(frames=[FRAME, FRAME]), r"harmful.frames\[1\] repeats harmful.frames\[0\]"),
    (lambda v: v["harmful"].update(frames=[FRAME + " "]), r"harmful.frames\[0\] has white space around it"),
    (lambda v: v["harmful"].update(refusals=["<answer>No."]), r"harmful.refusals\[0\] holds a tag"),
    (lambda v: v["harmful"].update(refusals=["\\ud800 No."]), r"harmful.refusals\[0\] holds a tag or half of"),
    (lambda v: v["harmful"].update(refusals=["No {kind}."]), r"harmful.refusals\[0\] holds a brace"),
    (lambda v: v["harmful"].update(frames=["This is harmful: {kind}."]), r"harmful.frames\[0\] must hold {kind} and"),
    (lambda v: v["harmful"].update(frames=[FRAME + " {kind}"]), r"harmful.frames\[0\] must hold {kind} and"),
    (lambda v: v["harmful"].update(frames=[FRAME + "{other}"]), r"harmful.frames\[0\] must hold {kind} and"),
    (lambda v: v["harmful"].update(frames=[FRAME.replace("{kind}", "{kind!r}")]), r"harmful.frames\[0\] must hold"),
    (lambda v: v["harmful"].update(frames=[FRAME.replace("{kind}", "{kind:9}")]), r"harmful.frames\[0\] must hold"),
    (lambda v: v["harmful"].update(frames=[FRAME.replace("{kind}", "{kind")]), r"harmful.frames\[0\] has braces"),
    (lambda v: v["benign"].update(frames=[FRAME]), r"benign.frames\[0\] with .*kinds\[0\] reads as harmful"),
    (
        lambda v: v["benign"].update(frames=["I like {kind}, and {reason}."]),
        r"benign.frames\[0\] with .* reads as no verdict",
    ),
    (
        lambda v: v["harmful"].update(frames=["It is benign: {kind}, {reason}."]),
        r"harmful.frames\[0\] .* reads as benign",
    ),
    (
        lambda v: v["harmful"].update(frames=[FRAME + " So it is."]),
        r"harmful.frames\[0\] .* reads as several sentences",
    ),
    (
        lambda v: v["benign"]["topics"][0].update(kinds=["a sum", "harmful content"]),
        r"benign.topics\[0\].kinds\[1\] reads as harmful by itself",
    ),
    (
        lambda v: v["harmful"]["topics"][0].update(names=["Scam"]),
        r"harmful.topics\[0\].names\[0\] is not in lower case",
    ),
    (
        lambda v: v["harmful"]["topics"].append(v["harmful"]["topics"][0] | {"names": ["scammer"]}),
        r"harmful.topics\[1\].names\[0\] is never reached, as topics\[0\]",
    ),
    (lambda v: v["harmful"].update(decisions=["This request is harmful"]), r"harmful.decisions\[0\] .* judges"),
    (
        lambda v: v["harmful"].update(refusals=["I can't help. This request is harmful."]),
        r"harmful.refusals\[0\] .* judges",
    ),
    (lambda v: v["harmful"].update(refusals=["Here you are."]), r"harmful.refusals\[0\] .* does not read as a refusal"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[message for _, message in CHANGES])
def test_what_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    value = small()
    change(value)
    text = json.dumps(value).replace("\\\\ud800", "\\ud800")
    with pytest.raises(ConfigError, match=rf"^--assess.phrases {tmp_path}/phrases.json: {message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "the file is not an object"),
        ('{"harmful": 1, "harmful": 2}', "the key 'harmful' stands twice"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_files_that_are_no_wording(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"--assess.phrases none.json: cannot be read .*--assess.write-phrases"):
        read_wording(Path("none.json"))
