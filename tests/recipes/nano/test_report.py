"""The report of a study: from the summary alone, the same bytes each time, a page that anybody can open and read."""

import json
import re
import runpy
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from alttrain.engine.report.plots import Bar, rates
from alttrain.nano.report import render, write_report
from alttrain.nano.summary import summarise

STUDY = runpy.run_path(str(Path(__file__).with_name("invented_study.py")))
HABITS, make_study = STUDY["HABITS"], STUDY["make_study"]
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and asserts that every element closes where it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.within: Counter[tuple[str, str]] = Counter()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.within.update((outer, tag) for outer in set(self.open))
        for name, value in attrs:
            if name == "id":
                self.ids[str(value)] += 1
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                self.links.append(str(value))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes what it did not open"


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


def test_it_opens_offline(text: str) -> None:
    assert re.findall(r"https?:|//[a-z]|@import|url\((?!#)|<script|<link|<img|<iframe", text) == []
    assert all(link.startswith("#") for link in Reader(text).links)


def test_ids_are_unique_and_links_have_their_ends(text: str) -> None:
    page = Reader(text)
    assert set(page.ids.values()) == {1}
    assert {link[1:] for link in page.links} | set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)


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


def test_both_colour_schemes_and_a_phone_are_thought_of(text: str) -> None:
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert page_without_background(text)


def page_without_background(text: str) -> bool:
    return not re.search(r"fill: #(ffffff|000000)|background-color", text)


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


def test_text_from_models_is_never_markup(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["traces"][0]["answers"][0]["think"] = "<script>alert(1)</script> & <b>"
    summary["runs"][0]["name"] = summary["runs"][0]["arm"] = '<i>"&'
    text = render(summary)
    assert "<script" not in text
    assert "<i>" not in text
    Reader(text)


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


def test_nothing_to_plot_is_no_plot() -> None:
    rate = {"share": None, "total": 0, "wilson": None, "clustered": None, "worlds": {}}
    assert rates("a title", "a description", [Bar("arm", "series", rate)]) == ""
