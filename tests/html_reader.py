"""A page read as a browser reads it, for the tests of what is shown to people."""

import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "hr", "input"}
HOSTILE = "<script>alert(1)</script> & | <b>"
"""A name as nobody should give it; it must be shown to the letter and do nothing."""


class Reader(HTMLParser):
    """Counts the elements of a page, and asserts that each closes where it should."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        """All text outside of the style sheet."""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        for name, value in attrs:
            assert not name.startswith("on"), f"{name} runs a script"
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

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def assert_stands_alone(page: str) -> None:
    """Assert that a page opens offline: nothing from elsewhere, no script, and every link ends in the page itself."""
    reader = Reader(page)
    assert re.findall(r"https?:|//[a-z]|@import|url\((?!#)", page) == []
    assert not reader.elements.keys() & {"script", "link", "img", "iframe", "object", "embed"}
    assert set(reader.ids.values()) <= {1}
    targets = {link.removeprefix("#") for link in reader.links} | set(re.findall(r"url\(#([^)]*)\)", page))
    assert targets <= set(reader.ids)
