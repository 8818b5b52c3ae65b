"""A response token by token, of a language whose tokens are characters: phases, budgets and draws."""

import torch

from alttrain.engine.evaluate.continuations import Language, OpenedPrompt, Sampling, Writing, choose_tokens
from alttrain.engine.thinking import Thinking

END = ord("$")
LANGUAGE = Language(
    Thinking("<t>", "</t>"),
    [ord(c) for c in "\n</t>\n\n"],
    frozenset([END]),
    context=1000,
    decode=lambda ids: "".join(map(chr, ids)),
)
OPENED = OpenedPrompt("a", [ord("?")], opened=True)
CLOSED = OpenedPrompt("a", [ord("?")], opened=False)


def write(text: str, prompt: OpenedPrompt = OPENED, language: Language = LANGUAGE, **budgets: int) -> Writing:
    """Return the response of a model that writes `text`, character by character, for as long as it is let."""
    row = Writing(language, prompt, Sampling(**budgets))
    for character in text:
        row.take(ord(character))
        if row.finish:
            break
    return row


def test_a_response_that_the_model_ends() -> None:
    found = write("ab</t>cd$").continuation()
    assert (found.text, found.num_tokens, found.finish, found.was_forced) == ("ab</t>cd", 9, "stop", False)
    assert write("abc$").continuation().finish == "stop", "also inside the reasoning"


def test_reasoning_at_its_budget_is_closed_and_the_answer_follows() -> None:
    """While the closing mark is written for it, whatever the model chose is not taken."""
    found = write("abc" + "-" * 7 + "de$", max_think_tokens=3).continuation()
    assert found.text == "abc\n</t>\n\nde"
    assert (found.num_tokens, found.finish, found.was_forced) == (6, "stop", True)


def test_a_mark_written_at_the_budget_itself_is_the_models() -> None:
    found = write("a</t>b$", max_think_tokens=5).continuation()
    assert (found.text, found.was_forced) == ("a</t>b", False)


def test_an_answer_at_its_budget_is_cut() -> None:
    found = write("ab</t>cdefgh$", max_answer_tokens=3).continuation()
    assert (found.text, found.finish) == ("ab</t>cde", "length")


def test_a_model_that_opens_its_reasoning_itself_or_has_none() -> None:
    assert write("\n<t>abcdefghi", CLOSED, max_think_tokens=6).continuation().finish == ""
    assert write("\n<t>ab" + "-" * 7 + "e$", CLOSED, max_think_tokens=6).continuation().text == "\n<t>ab\n</t>\n\ne"
    found = write("abcdef", CLOSED, max_think_tokens=2, max_answer_tokens=4).continuation()
    assert (found.text, found.finish, found.was_forced) == ("abcd", "length", False)


def test_a_context_shorter_than_the_budgets_leaves_room_for_an_answer() -> None:
    small = Language(LANGUAGE.thinking, LANGUAGE.closing, LANGUAGE.ends, context=31, decode=LANGUAGE.decode)
    found = write("a" * 99, OPENED, small).continuation()
    assert (found.text, found.finish) == ("a" * 8 + "\n</t>\n\n" + "a" * 15, "context")
    assert found.was_forced


def test_greedy_takes_the_likeliest_and_draws_nothing() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    rows = [write(""), write("")]
    assert choose_tokens(logits, rows, Sampling()) == [1, 0]
    assert rows[0].draw() == write("").draw()


def test_draws_follow_the_probabilities_within_top_p() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    row = write("")

    def shares(sampling: Sampling) -> list[float]:
        drawn = [choose_tokens(logits, [row], sampling)[0] for _ in range(3000)]
        return [drawn.count(token) / len(drawn) for token in range(4)]

    for temperature in (1.0, 2.0):
        expected = torch.softmax(logits[0] / temperature, -1).tolist()
        assert all(abs(a - b) < 0.04 for a, b in zip(shares(Sampling(temperature)), expected, strict=True))
    first, _, *rest = shares(Sampling(1.0, top_p=0.7))  # 0.64 and 0.24 of the probability
    assert rest == [0, 0]
    assert abs(first - 0.73) < 0.04
    assert shares(Sampling(1.0, top_p=0.01)) == [1, 0, 0, 0], "the likeliest is always kept"


def test_a_rows_draws_depend_on_seed_and_id_alone() -> None:
    def draws(id_: str, seed: int) -> list[float]:
        row = Writing(LANGUAGE, OpenedPrompt(id_, [1], opened=True), Sampling(seed=seed))
        return [row.draw() for _ in range(3)]

    assert draws("a", 1) == draws("a", 1)
    assert draws("a", 1) != draws("b", 1)
    assert draws("a", 1) != draws("a", 2)
