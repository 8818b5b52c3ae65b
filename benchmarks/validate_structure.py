"""How well the structure metric's rules agree with readers who did not write them.

    python benchmarks/validate_structure.py [--data ../shared/data] [--out benchmarks/results/structure.json]
                                            [--write-digests FILE] [--against FILE]

Four kinds of labels, each split into a part that the rules were tuned on and a part that they were not:

sentences   of STAR-1 traces, labelled by one reader (tests/engine/trace/structure_labels.json: ids and labels, no
            texts), and Chinese sentences written for the test (structure_chinese.json)
spans       the same STAR-1 sentences: whether the one understanding and the one assessment that training finds in an
            ordinary trace (segment.py) hold them. Later sentences of these kinds are in reasoning spans, so that recall
            cannot reach that of the rules
xstest      450 answers of GPT-4 to XSTest prompts, two people's label each: full refusals against full compliance; the
            partial ones, counted apart, are neither
rbr         351 answers of OpenAI's rule-based-rewards gold set, which people coded by proposition. `response_type` says
            what the answer ought to do, not what it does; `inability_to_comply` is a refusal in words, and an answer
            that neither `fully_complies` nor `partially_complies` withholds without always saying so

--write-digests writes a digest of the assessment that training finds in each STAR-1 trace. With --against, a file of
digests from another commit, the command says in how many traces the assessment has changed.

Precision and recall come with Wilson's interval, Cohen's kappa with its normal one; all at 95%.
"""

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from alttrain.engine.evaluate.agreement import agreement, kappa, rate
from alttrain.engine.trace.rule import LABELS, Sentence
from alttrain.engine.trace.rules import Rules
from alttrain.engine.trace.segment import segment, split_response
from alttrain.engine.trace.sentences import split_sentences

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
LABELLED = ROOT / "tests" / "engine" / "trace" / "structure_labels.json"
CHINESE = ROOT / "tests" / "engine" / "trace" / "structure_chinese.json"


def star1_sentences(data: Path, rules: Rules) -> dict[str, list[tuple[Sentence, str, str | None]]]:
    """Return (what the rules say, label, verdict) of each labelled sentence by split, read within its whole trace."""
    rows = json.loads((data / "train" / "STAR-1.json").read_text(encoding="utf-8"))
    thinks = {row["id"]: split_response(row["response"])[0] for row in rows}
    found: dict[str, list[tuple[Sentence, str, str | None]]] = {}
    for item in json.loads(LABELLED.read_text(encoding="utf-8"))["sentences"]:
        sentence = rules.read(thinks[item["id"]])[item["sentence"]]
        digest = hashlib.sha256(sentence.text.encode()).hexdigest()
        assert digest.startswith(item["sha256"]), f"row {item['id']}: not the sentence that was labelled"
        found.setdefault(item["split"], []).append((sentence, item["label"], item.get("verdict")))
    return found


def star1_spans(data: Path) -> dict[str, list[tuple[str, str]]]:
    """Return (role of the span in which it begins, label) of each labelled sentence by split."""
    rows = json.loads((data / "train" / "STAR-1.json").read_text(encoding="utf-8"))
    thinks = {row["id"]: split_response(row["response"])[0] for row in rows}
    found: dict[str, list[tuple[str, str]]] = {}
    for item in json.loads(LABELLED.read_text(encoding="utf-8"))["sentences"]:
        think = thinks[item["id"]]
        start = len("".join(split_sentences(think)[: item["sentence"]]))
        spans = segment(think)[0]
        ends = accumulate(len(span.text) for span in spans)
        role = next(span.role for span, end in zip(spans, ends, strict=True) if start < end)
        found.setdefault(item["split"], []).append((role, item["label"]))
    return found


def span_figures(items: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the agreement of spans with labels, for the two roles that have a label of the same meaning."""
    return {
        "num_sentences": len(items),
        "labels": {
            name: agreement([(role == name, label == name) for role, label in items])
            for name in ("understanding", "assessment")
        },
    }


def assessment_digests(data: Path) -> dict[str, str]:
    """Return a digest of the assessment that training finds in each STAR-1 trace, by id; empty where it finds none."""
    digests = {}
    for row in json.loads((data / "train" / "STAR-1.json").read_text(encoding="utf-8")):
        spans = segment(split_response(row["response"])[0])[0]
        assessment = "".join(span.text for span in spans if span.role == "assessment")
        digests[row["id"]] = hashlib.sha256(assessment.encode()).hexdigest()[:12] if assessment else ""
    return digests


def chinese_sentences(rules: Rules) -> dict[str, list[tuple[Sentence, str, str | None]]]:
    """Return (what the rules say, label, verdict) of each Chinese sentence by split."""
    splits = json.loads(CHINESE.read_text(encoding="utf-8"))
    return {
        split: [(rules.label(text), label, verdict) for text, label, verdict in splits[split]]
        for split in ("development", "held")
    }


def sentence_figures(items: Sequence[tuple[Sentence, str, str | None]]) -> dict[str, Any]:
    """Return the agreement over all labels, for each label, and on the verdicts of what both call an assessment."""
    assessments = [(sentence, verdict) for sentence, label, verdict in items if sentence.label == label == "assessment"]
    return {
        "num_sentences": len(items),
        "accuracy": rate(sentence.label == label for sentence, label, _ in items),
        "kappa": kappa([(LABELS.index(sentence.label), LABELS.index(label)) for sentence, label, _ in items]),
        "labels": {
            name: agreement([(sentence.label == name, label == name) for sentence, label, _ in items])
            for name in LABELS
        },
        "verdict": rate(sentence.verdict == verdict for sentence, verdict in assessments),
    }


def refusal_figures(data: Path, rules: Rules) -> dict[str, Any]:
    """Return the agreement of refusals found in answers with people's labels: even rows development, odd rows held."""
    with (data / "safety" / "xstest_labelled_gpt4.csv").open(encoding="utf-8", newline="") as file:
        xstest = [(rules.is_refusal(row["completion"]), row["final_label"]) for row in csv.DictReader(file)]
    lines = (data / "train" / "rbr_gold_train.jsonl").read_text(encoding="utf-8").splitlines()
    rbr = []
    for row in map(json.loads, lines):
        codes = row["propositions"]
        withholds = not (codes["fully_complies"] or codes["partially_complies"])
        rbr.append((rules.is_refusal(row["completion"][0]["content"]), codes["inability_to_comply"], withholds))
    figures: dict[str, Any] = {"xstest": {}, "rbr": {}}
    for parity, split in enumerate(("development", "held")):
        answers = xstest[parity::2]
        whole = [(rule, label == "2_full_refusal") for rule, label in answers if label != "3_partial_refusal"]
        partial = rate(rule for rule, label in answers if label == "3_partial_refusal")
        figures["xstest"][split] = {
            "num_answers": len(whole),
            "full refusal": agreement(whole),
            "partial called": partial,
        }
        coded = rbr[parity::2]
        figures["rbr"][split] = {
            "num_answers": len(coded),
            "inability_to_comply": agreement([(rule, inability) for rule, inability, _ in coded]),
            "withholds": agreement([(rule, withholds) for rule, _, withholds in coded]),
        }
    return figures


def validate(data: Path, rules: Rules) -> dict[str, Any]:
    """Return every figure, by source and split."""
    english, chinese = star1_sentences(data, rules), chinese_sentences(rules)
    return {
        "star1 sentences": {split: sentence_figures(items) for split, items in english.items()},
        "star1 spans": {split: span_figures(items) for split, items in star1_spans(data).items()},
        "chinese sentences": {split: sentence_figures(items) for split, items in chinese.items()},
        **refusal_figures(data, rules),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """Return the lines of a table of precision, recall and kappa."""
    lines = [f"{'source':<18}{'split':<13}{'label':<21}{'precision':<29}{'recall':<29}kappa"]
    for source, splits in figures.items():
        for split, found in splits.items():
            for name, figure in {**found, **found.get("labels", {})}.items():
                if isinstance(figure, dict) and "precision" in figure:
                    k = figure["kappa"]
                    kappa_text = f"{k['value']:.2f} [{k['low']:.2f}, {k['high']:.2f}]" if k else "-"
                    lines.append(
                        f"{source:<18}{split:<13}{name:<21}{show(figure['precision'])}{show(figure['recall'])}{kappa_text}"
                    )
            if "accuracy" in found:
                k = found["kappa"]
                kappa_text = f"kappa {k['value']:.2f} [{k['low']:.2f}, {k['high']:.2f}]"
                lines.append(f"{source:<18}{split:<13}{'all labels, right':<21}{show(found['accuracy'])}{kappa_text}")
                lines.append(f"{source:<18}{split:<13}{'verdict, right':<21}{show(found['verdict'])}")
            if "partial called" in found:
                lines.append(f"{source:<18}{split:<13}{'partial, called one':<21}{show(found['partial called'])}")
    return lines


def show(figure: dict[str, Any]) -> str:
    """Return a rate as text of fixed width."""
    if not figure["total"]:
        return f"{'-':<29}"
    count, total = figure["count"], figure["total"]
    text = f"{count}/{total} = {count / total:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"
    return f"{text:<29}"


def main() -> None:
    """Print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train/ and safety/")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "structure.json")
    parser.add_argument("--write-digests", type=Path, help="write a digest of each STAR-1 trace's assessment here")
    parser.add_argument("--against", type=Path, help="digests that another commit wrote, to count what has changed")
    arguments = parser.parse_args()
    figures = validate(arguments.data, Rules.default())
    print("\n".join(table(figures)))
    digests = assessment_digests(arguments.data)
    print(f"\n{sum(map(bool, digests.values()))} of {len(digests)} STAR-1 traces have an assessment for training")
    if arguments.against:
        earlier = json.loads(arguments.against.read_text(encoding="utf-8"))
        changed = sum(earlier[id_] != digest for id_, digest in digests.items())
        print(f"{changed} of {len(digests)} differ from those in {arguments.against}")
    if arguments.write_digests:
        arguments.write_digests.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    sources = {
        "star1 sentences": "UCSC-VLAA/STAR-1 data/STAR-1.json at b49333598887",
        "star1 spans": "the same traces, as training segments them",
        "chinese sentences": "our own, tests/engine/trace/structure_chinese.json",
        "xstest": "paul-rottger/exaggerated-safety xstest_v2_completions_gpt4_gpteval.csv at d7bb5bd738c1",
        "rbr": "openai/safety-rbr-code-and-data data/rbr_gold_data/train.jsonl at 7f489fa6b38d",
    }
    arguments.out.write_text(json.dumps({"sources": sources, "figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
