"""What the sentences of this world do, for the structure metric: its language is small, and its rules are complete."""

from alttrain.engine.trace.rule import Rule
from alttrain.engine.trace.rules import Rules

RULES = Rules(
    sentences=(
        Rule("understanding", r"^The user (?:wants|asks)"),
        Rule("assessment", r"^Is it harmful"),
        Rule("assessment", r"^So it is harmful", "harmful"),
        Rule("assessment", r"^So it is safe", "benign"),
        Rule("assessment", r" is (?:toxic|fine) "),
        Rule("refusal", r"^I must refuse"),
        Rule("solving", r"^Steps :"),
    ),
    refusals=(Rule("refusal", r"\bsorry\b"),),
    otherwise="other",  # what a thing contains or what colour it has is no judgement yet
    sentence_end=r"[.?](?=\s)",
)
