"""The marks around a model's reasoning, `<think>` and `</think>` by default, and how they are written.

All code that reads responses, renders rows or splits generated text takes the marks from here.
"""

from dataclasses import dataclass

from alttrain.engine.errors import ConfigError


@dataclass(frozen=True)
class Thinking:
    """The opening and the closing mark of the reasoning, and the white space that is written around it."""

    open: str = "<think>"
    close: str = "</think>"
    after_open: str = "\n"
    before_close: str = "\n"
    after_close: str = "\n\n"
    """Stands between the closing mark and the answer."""

    def __post_init__(self) -> None:
        """Check the marks.

        Raises:
            ConfigError: one of them is empty.
        """
        for mark, name, verb in ((self.open, "open", "opens"), (self.close, "close", "closes")):
            if not mark.strip():
                raise ConfigError(f"is empty: it must hold what {verb} the reasoning.", flag=f"--data.think-{name}")

    @property
    def tags(self) -> tuple[str, str]:
        """The texts that no span may hold."""
        return self.close, self.open

    def is_opened_by(self, written: str) -> bool:
        """Return whether `written`, the end of a prompt, has opened the reasoning: nothing stands after the mark."""
        return written.rstrip().endswith(self.open)

    def write_opening(self, written: str) -> str:
        """Return the opening mark with the white space after it; nothing where `written` has opened the reasoning."""
        return "" if self.is_opened_by(written) else self.open + self.after_open

    def write_closing(self, *, after_text: bool, has_answer: bool) -> str:
        """Return the closing mark, with white space before it if `after_text`, and after it if `has_answer`."""
        return (self.before_close if after_text else "") + self.close + (self.after_close if has_answer else "")


MARKS = Thinking()
"""The marks that rows are written with where no others are asked for."""

THOUGHT_AND_SOLUTION = Thinking("<|begin_of_thought|>", "<|end_of_thought|>", "\n\n", "\n\n", "\n\n")

KNOWN: tuple[Thinking, ...] = (
    MARKS,  # R1 and its distillations, QwQ, Qwen3, SmolLM3, Olmo 3 Think, Phi-4-reasoning
    Thinking("<|im_start|>think", "<|im_start|>answer", after_close="\n"),  # s1, s1.1
    THOUGHT_AND_SOLUTION,  # Sky-T1, Bespoke-Stratos, OpenThinker
    Thinking("[THINK]", "[/THINK]", "", "", ""),  # Magistral, Ministral 3 Reasoning
    Thinking("<seed:think>", "</seed:think>", "", "", ""),  # Seed-OSS
    Thinking("<mm:think>", "</mm:think>"),  # MiniMax-M3
    Thinking("<|START_THINKING|>", "<|END_THINKING|>", "", "", ""),  # Command A Reasoning
    Thinking("<|channel>thought", "<channel|>", "\n", "", ""),  # Gemma 4
    Thinking(  # gpt-oss
        "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", "", "", ""
    ),
    Thinking("◁think▷", "◁/think▷", "", "", ""),  # Kimi
)
"""The marks of the families whose own form is known; each is written with its family's white space."""

TAG_WORDS = (
    "think", "thinking", "thought", "thoughts", "reasoning", "reason", "rationale", "analysis", "cot", "reflection",
    "scratchpad", "inner_monologue",
)  # fmt: skip
"""Words that data sets put into angle brackets around the reasoning, in any case and with or without bars."""

ANSWER_WORDS = ("answer", "final_answer", "final", "response", "final_response", "solution", "output")
"""Words that data sets put into angle brackets around the answer."""

ANSWER_MARKS: tuple[tuple[str, str], ...] = (
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
)
"""Marks around the answer that are no words in angle brackets."""


def find_marks(open_mark: str, close_mark: str) -> Thinking:
    """Return the given marks, with the white space of the family that they belong to.

    Marks of no known family are written as `<think>` is; where a mark itself begins or ends in white space, or in the
    escape for a line break, that is what is written.
    """
    for known in KNOWN:
        if (known.open, known.close) == (open_mark, close_mark):
            return known
    opening, closing = (mark.replace("\\n", "\n") for mark in (open_mark, close_mark))
    bare_open, bare_close = opening.strip(), closing.strip()
    before, _, after = closing.partition(bare_close) if bare_close else ("", "", "")
    return Thinking(
        bare_open,
        bare_close,
        after_open=opening[len(opening.rstrip()) :] or MARKS.after_open,
        before_close=before or MARKS.before_close,
        after_close=after or MARKS.after_close,
    )
