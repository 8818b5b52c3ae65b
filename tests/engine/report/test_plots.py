"""The figures: what they say to those who see them and to those who do not; text as text, no background."""

import html
import math
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.report.plots import INK, OWN_COLOUR, Bar, Line, curves, differences, rates, weights
from alttrain.engine.trace.roles import ROLES

HTML = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))
Reader, HOSTILE = HTML["Reader"], HTML["HOSTILE"] + " $x^2$"
RATE = {"share": 0.25, "total": 40, "wilson": (0.1, 0.4), "clustered": (0.15, 0.35), "worlds": {"0": 0.2, "1": 0.3}}
NO_RATE = RATE | {"share": None, "wilson": None, "clustered": None, "worlds": {}}
COMPARISON = {"difference": 0.1, "clustered": (0.05, 0.15), "t_interval": (-0.02, 0.2), "worlds": {"0": 0.1, "1": 0.12}}


def labels(svg: str) -> list[str]:
    """Return the texts of a figure in the order they are drawn."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def drawn(name: str, description: str = "1 at step 1.") -> dict[str, str]:
    """Return a figure of every kind that takes names."""
    return {
        "rates": rates(name, description, [Bar(name, name, RATE), Bar(name, "other", RATE)]),
        "differences": differences(name, description, [COMPARISON], [name]),
        "curves": curves(name, description, {name: Line([1, 2], [1, 2]), "other": Line([1, 2], [2, 3])}, name),
    }


@pytest.mark.parametrize("kind", ["rates", "differences", "curves"])
def test_names_are_text_to_the_letter(kind: str) -> None:
    svg = drawn(HOSTILE, HOSTILE)[kind]
    assert svg.startswith("<svg ")
    assert Reader(svg).elements.keys() == Reader(drawn("words")[kind]).elements.keys()
    assert HOSTILE in [html.unescape(label) for label in labels(svg)]
    assert f"<desc>{html.escape(HOSTILE)}</desc>" in svg


@pytest.mark.parametrize("svg", [*drawn("a name").values(), weights("a name", "b", {"benign exact": [(1.0, RATE)]})])
def test_figures_read_on_light_and_on_dark(svg: str) -> None:
    assert re.search(r'role="img" aria-label="a name"><title>a name</title><desc>', svg)
    assert not re.search(r"fill: #(ffffff|000000)|stroke: #000000|background", svg)
    assert INK in svg
    assert labels(svg)
    assert "<g id" not in svg


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert drawn("a name") == drawn("a name")


def test_a_narrow_range_has_plain_numbers_and_whole_steps() -> None:
    svg = curves("Loss", "", {"loss": Line([1, 2, 3, 4], [8.0, 6.0, 4.0, 2.0])})
    assert labels(svg)[:5] == ["1", "2", "3", "4", "step"]
    values = [float(label) for label in labels(svg)[5:]]
    assert len(values) >= 3
    assert all(1.5 < value < 9 and value * 10 == int(value * 10) for value in values)


def test_a_wide_range_is_told_in_powers_of_ten() -> None:
    svg = curves("nll", "", {"answer": Line([0, 50, 100], [10.0, 0.1, 0.001])}, "nll, nats a token")
    assert {"0.001", "0.01", "0.1", "1", "10", "nll, nats a token"} <= set(labels(svg))


def test_large_and_small_numbers_on_a_linear_scale() -> None:
    large = curves("a", "", {"a": Line([1, 2], [1_000_000.0, 2_000_000.0])}, is_log=False)
    small = curves("b", "", {"b": Line([1, 2], [0.0, 1e-5])}, is_log=False)
    assert "1,200,000" in labels(large)
    assert "4e-06" in labels(small)


def test_zero_and_what_is_no_number_can_be_drawn() -> None:
    assert "0" in labels(curves("a", "", {"a": Line([1, 2, 3], [2.0, 1.0, 0.0])}))  # linear: no logarithm of 0
    assert curves("a", "", {"a": Line([1, 2, 3], [2.0, math.nan, math.inf])})


def test_one_line_needs_no_legend() -> None:
    assert "loss" not in labels(curves("a", "", {"loss": Line([1, 2], [2, 1])}))
    assert {"answer", "end"} <= set(labels(curves("a", "", {r: Line([1, 2], [2, 1]) for r in ("answer", "end")})))


def test_every_role_has_its_own_colour() -> None:
    assert len({OWN_COLOUR[role] for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize(
    "svg",
    [
        rates("a", "b", [Bar("arm", "series", NO_RATE)]),
        differences("a", "b", [], []),
        curves("a", "b", {}),
        curves("a", "b", {"loss": Line([], [])}),
        curves("a", "b", {"loss": Line([1], [math.nan])}),
        weights("a", "b", {"benign exact": [(1.0, NO_RATE)]}),
    ],
)
def test_nothing_to_plot_is_no_plot(svg: Any) -> None:
    assert svg == ""
