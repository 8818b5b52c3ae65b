"""The report of a study: from the summary alone, the same bytes each time, a page that anybody can open and read."""

import json
import re
import runpy
from pathlib import Path

import pytest

from alttrain.nano.report import render, write_report
from alttrain.nano.summary import summarise

STUDY = runpy.run_path(str(Path(__file__).with_name("invented_study.py")))
HABITS, make_study = STUDY["HABITS"], STUDY["make_study"]
HTML = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))
Reader, HOSTILE, assert_stands_alone = HTML["Reader"], HTML["HOSTILE"], HTML["assert_stands_alone"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("study"), HABITS | {"placebo": (0.5, 0.3)}, weights=(1.0, 4.0))
    (study / "summary.json").write_text(json.dumps(summarise(study)), encoding="utf-8")
    write_report(study)
    return study


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_summary_alone_makes_it_again_to_the_byte(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_bytes((folder / "summary.json").read_bytes())
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "summary.json"]


def test_it_is_well_formed_and_opens_offline(text: str) -> None:
    assert_stands_alone(text)


def test_figures_and_tables_are_told_to_those_who_do_not_see_them(text: str) -> None:
    page = Reader(text)
    assert page.elements["figure"] == page.elements["figcaption"] == page.elements["svg"] >= 10
    for figure in re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL):
        assert re.search(r"<figcaption>\S", figure)
        assert re.search(r"<svg [^>]*role=\"img\"[^>]*><title>\S[^<]*</title><desc>\S[^<]*\d[^<]*</desc>", figure)
    assert page.elements["table"] == page.elements["caption"] == 3
    for table in re.findall(r"<table>.*?</table>", text, flags=re.DOTALL):
        columns = table.count('<th scope="col">')
        for row in re.findall(r"<tr[^>]*>(<th scope=\"row\">.*?)</tr>", table, flags=re.DOTALL):
            assert row.count("<td>") + 1 == columns
    assert '<html lang="en">' in text
    assert page.elements["h1"] == page.elements["main"] == 1


def test_figures_have_no_background(text: str) -> None:
    assert not re.search(r"fill: #(ffffff|000000)|background-color", text)


def test_it_says_what_the_summary_says(folder: Path, text: str) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert text.index(summary["finding"][0]) < text.index("<h2>")
    for run in summary["runs"]:
        share = run["settings"]["held-out"]["refused_harmful"]["share"]
        assert f"<td>{100 * share:.1f}%<small>" in text
    for heading in (
        "Who is refused",
        "Does it carry over?",
        "What was preserved",
        "Structure, before and after",
        "Is the assessment read?",
        "Learning, role by role",
        "The weight of the assessment",
        "Traces, side by side",
    ):
        assert text.count(f"<h2>{heading}</h2>") == 1


def test_text_from_files_and_models_is_never_markup(folder: Path, text: str) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    places = ["think", "answer", "prompt", "kind", "arm", "finding", "clustering", "version", "commit", "world", "way"]
    hostile = {place: f"{HOSTILE} {place}" for place in places}
    trace, run = summary["traces"][0], summary["runs"][0]
    trace["answers"][0] |= {"think": hostile["think"], "answer": hostile["answer"]}
    trace |= {"prompt": hostile["prompt"], "kind": hostile["kind"]}
    run["name"] = run["arm"] = hostile["arm"]
    run["structure"]["ways"][0]["steps"] = [hostile["way"]]
    summary["finding"][0], summary["worlds"][0] = hostile["finding"], hostile["world"]
    summary["clustering"] = hostile["clustering"]
    summary["study"] |= {"versions": {"torch": hostile["version"]}, "commit": hostile["commit"]}
    page = Reader(render(summary))
    assert page.elements.keys() == Reader(text).elements.keys()
    for place in places:
        assert hostile[place] in page.text, place


@pytest.mark.parametrize(
    ("arms", "seeds"), [(("full",), (0,)), (("no-assessment", "full"), (3,)), (("base", "placebo"), (0, 1))]
)
def test_a_study_that_lacks_is_a_shorter_page(tmp_path: Path, arms: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    study = make_study(tmp_path, dict.fromkeys(arms, (0.6, 0.3)), seeds=seeds, per_label=4)
    for name in ("interventions.jsonl", "runs.jsonl"):
        (study / name).write_text("", encoding="utf-8")
    text = render(summarise(study))
    page = Reader(text)
    assert page.elements["figure"] == page.elements["svg"]
    assert "<h2>The weight of the assessment</h2>" not in text
    assert "<h2>Learning, role by role</h2>" not in text
    assert "None" not in text
    assert "nan" not in text
