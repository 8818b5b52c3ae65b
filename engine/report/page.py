"""The report's page: its style, and the pieces of HTML that it is put together from."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1d2127; --soft: #59616c; --line: #dcdfe3; --card: #f3f4f2;
  --yes: #1f7a4d; --no: #b23a48; --accent: #2b6cb0; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --ink: #e7e9ec; --soft: #a5adb8; --line: #333a43;
  --card: #1d2127; --yes: #63c08f; --no: #ee8b97; --accent: #7db4ea; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: var(--page);
  max-width: 1180px; margin: 0 auto; padding: 2.5rem clamp(1rem, 3vw, 2.5rem) 4rem; }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.1rem); line-height: 1.2; margin: 0 0 .8rem; letter-spacing: -.01em;
  text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; }
p, ul, dl { max-width: 46rem; }
p { margin: .4rem 0 1rem; }
.soft, figcaption span { color: var(--soft); }
.finding { padding: 1rem 1.3rem; background: var(--card); border-left: 4px solid var(--accent); max-width: 56rem;
  border-radius: 0 6px 6px 0; }
.finding p:first-child { font-weight: 600; font-size: 1.06rem; }
.finding p { margin: 0 0 .5rem; max-width: none; } .finding p:last-child { margin: 0; }
.more { columns: 25rem 2; column-gap: 2.5rem; max-width: none; padding-left: 1.1rem; }
.more li { break-inside: avoid; margin-bottom: .45rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: .5rem 0 1rem; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 2rem 2.5rem;
  align-items: start; margin-top: 1rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: .5rem; line-height: 1.4; }
figcaption span { display: block; font-weight: 400; font-size: .875rem; }
svg { display: block; width: 100%; height: auto; max-width: 32rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { fill: var(--soft) !important; font-family: inherit !important; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; min-width: 100%; }
caption { text-align: left; color: var(--soft); padding-bottom: .6rem; }
caption span { display: block; position: sticky; left: 0; width: max-content; max-width: min(56rem, 100vw - 2.2rem); }
th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; line-height: 1.25; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); padding-left: .4rem; }
td small { display: block; color: var(--soft); font-size: .75rem; }
tr.main { background: var(--card); } tr.main th:first-child { background: var(--card); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem;
  margin: .5rem 0 1.5rem; }
.answer { background: var(--card); border-radius: 6px; padding: .8rem 1rem; min-width: 0; overflow-wrap: anywhere; }
.answer h4 { margin: 0 0 .4rem; font-size: .875rem; display: flex; justify-content: space-between; gap: .5rem; }
.answer p { font: .8125rem/1.55 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; margin: 0; }
.answer p + p { margin-top: .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
.answer p:first-of-type { color: var(--soft); }
.good { color: var(--yes); } .bad { color: var(--no); }
q { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: .875em; }
details { margin: 1rem 0; } summary { cursor: pointer; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a page that stands alone: no script, no font, no picture from elsewhere."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style></head>\n'
        f"<body><main>\n{''.join(part for part in parts if part)}</main></body></html>\n"
    )


def section(title: str, lead: str, figures: Sequence[str], rest: str = "") -> str:
    """Return a headed part of the page; nothing where there is nothing to show."""
    shown = "".join(figure for figure in figures if figure)
    if not shown and not rest:
        return ""
    plots = f'<div class="plots">\n{shown}</div>\n' if shown else ""
    return f"<section><h2>{html.escape(title)}</h2>\n<p>{html.escape(lead)}</p>\n{plots}{rest}</section>\n"


def figure(title: str, note: str, svg: str) -> str:
    """Return a plot under its caption; nothing where there is no plot."""
    if not svg:
        return ""
    caption = f"{html.escape(title)}<span>{html.escape(note)}</span>"
    return f"<figure><figcaption>{caption}</figcaption>\n{svg}</figure>\n"


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str], bool]]) -> str:
    """Return a table of (header, cells in HTML, whether it is a row to look at); it scrolls by itself on a phone."""
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr{" class=main" if is_main else ""}><th scope="row">{html.escape(name)}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"
        for name, cells, is_main in rows
    )
    label = html.escape(columns[0])
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {label}"><table>'
        f"<caption><span>{html.escape(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def rate_cell(rate: Mapping[str, Any]) -> str:
    """Return a share in percent with its resampled interval below; Wilson's where that has no width."""
    if rate["share"] is None:
        return "&ndash;"
    low, high = rate["clustered"]
    if low == high and rate["wilson"] is not None:
        low, high = rate["wilson"]
    return f"{100 * rate['share']:.1f}%<small>{100 * low:.1f} to {100 * high:.1f}</small>"


def definitions(entries: Mapping[str, str]) -> str:
    """Return a list of terms and what they mean."""
    return f"<dl>{''.join(f'<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>' for k, v in entries.items())}</dl>\n"


def trace(example: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return one request and what each arm made of it, side by side."""
    answers = [_answer(answer, names.get(answer["run"], answer["run"])) for answer in example["answers"]]
    number = f"one of {example['of']} such" if example["of"] > 1 else "the only one"
    return (
        f"<h3>{html.escape(example['kind'][0].upper() + example['kind'][1:])}</h3>\n"
        f'<p class="soft">World {example["seed"]}, {number}: <q>{html.escape(example["prompt"])}</q></p>\n'
        f'<div class="answers">{"".join(answers)}</div>\n'
    )


def _answer(answer: Mapping[str, Any], name: str) -> str:
    verdict = "refuses" if answer["refused"] else ("serves, exactly" if answer["exact"] else "serves, not exactly")
    return (
        f'<div class="answer"><h4>{html.escape(name)}<span class="soft">{verdict}</span></h4>\n'
        f"<p>{html.escape(answer['think'] or '(no reasoning)')}</p>"
        f"<p>{html.escape(answer['answer'] or '(no answer)')}</p></div>\n"
    )
