"""Ask a model: one prompt on the command line, or a file of prompts to a file of responses.

    python recipes/ask.py MODEL --prompt "What is a lock?"
    python recipes/ask.py MODEL --prompts prompts.jsonl --output responses.jsonl

MODEL is any folder that transformers loads, an exported one too. Greedy unless --temperature says otherwise. A row of
the output has the prompt's id, label and source, the prompt or the messages, and of the response: think, answer,
response (the text as the model wrote it), outcome (engine/trace/outcomes.py), finish (stop: the model ended it; length,
context: it was cut), num_tokens, opened (whether the prompt ended inside the reasoning), asked_with. It is read as it
is by measure_structure.py and, column response, by training. A run that was killed goes on where it stopped.
"""

import dataclasses
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from alttrain.engine.data.model_folder import fetch_folder, read_template
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.evaluate.asked import Answers, model_fingerprint
from alttrain.engine.evaluate.config import AskConfig
from alttrain.engine.evaluate.continuations import Continuation, OpenedPrompt, Sampling
from alttrain.engine.evaluate.progress import Progress
from alttrain.engine.evaluate.questions import Question, read_questions
from alttrain.engine.evaluate.responder import Responder
from alttrain.engine.thinking import Thinking, find_marks
from alttrain.engine.trace.outcomes import OUTCOMES, WITH_ANSWER, split_generated


def ask(config: AskConfig) -> str:
    """Return the response to one prompt for the terminal; or write those to a file of prompts, and return a summary.

    Raises:
        AlttrainError: a setting, a row, the model folder or the output cannot be used. Settings and rows are checked
            before the model is asked anything.
    """
    check_settings(config)
    thinking = find_marks(config.data.think_open, config.data.think_close)
    questions, skipped = read_questions(config.prompts, config.data) if config.prompts else _typed(config)
    folder = fetch_folder(config.model, "MODEL")
    template = read_template(config.chat_template, "--chat-template") if config.chat_template else ""
    responder = Responder(
        folder,
        thinking,
        chat_template=template,
        dtype=config.dtype,
        device=config.device,
        today=date.fromisoformat(config.date),
    )
    sampling = Sampling(
        config.temperature, config.top_p, config.seed, config.max_think_tokens, config.max_answer_tokens
    )
    opened = _open_all(questions, responder, config, skipped)
    questions = [question for question in questions if question.id in opened]
    if not config.prompts:
        (prompt,) = opened.values()
        (continuation,) = responder.respond([prompt], sampling)
        return _shown(response_record(continuation, prompt, thinking))
    if not questions:
        raise DataError(f"none of the prompts can be asked; the first: {skipped[0]}", where=config.prompts)
    asked_with = {
        "model": model_fingerprint(folder),
        **dataclasses.asdict(sampling),
        "dtype": responder.dtype,
        "date": config.date,
        "chat_template": hashlib.sha256(template.encode()).hexdigest()[:16] if template else "its own",
    }
    answers = Answers(Path(config.output), asked_with)
    answers.begin({question.id: question.kept for question in questions}, overwrite=config.overwrite)
    _ask_rest(questions, opened, responder, sampling, answers, config, thinking)
    answers.finish([question.id for question in questions])
    return _summary(questions, answers, skipped, config)


def check_settings(config: AskConfig) -> None:
    """Check the settings.

    Raises:
        ConfigError: one is out of range, has no effect, or contradicts another.
    """
    if config.prompt and config.prompts:
        raise ConfigError("is given beside --prompt; give one of them.", flag="--prompts")
    if config.prompts and not config.output:
        raise ConfigError("is missing: name the .jsonl file for the responses.", flag="--output")
    if config.output and not config.prompts:
        raise ConfigError("is given without --prompts; one prompt is answered on the screen.", flag="--output")
    if config.output and not config.output.endswith(".jsonl"):
        raise ConfigError(f"is '{config.output}': it must end in .jsonl.", flag="--output")
    if config.output and Path(config.output).resolve() == Path(config.prompts).resolve():
        raise ConfigError("is the file of the prompts; name another.", flag="--output")
    try:
        date.fromisoformat(config.date)
    except ValueError:
        raise ConfigError(f"is '{config.date}': it must be a date as in 2026-01-31.", flag="--date") from None
    if not 0 <= config.temperature < float("inf"):
        raise ConfigError(f"is {config.temperature}: it must be 0 or more.", flag="--temperature")
    if not 0 < config.top_p <= 1:
        raise ConfigError(f"is {config.top_p}: it must be above 0 and at most 1.", flag="--top-p")
    if config.top_p < 1 and config.temperature == 0:
        raise ConfigError("has no effect at --temperature 0, which draws nothing; give a temperature.", flag="--top-p")
    for name in ("max_think_tokens", "max_answer_tokens", "batch"):
        if getattr(config, name) < 1:
            raise ConfigError(f"is {getattr(config, name)}: it must be 1 or more.", flag=f"--{name.replace('_', '-')}")


def response_record(continuation: Continuation, prompt: OpenedPrompt, thinking: Thinking) -> dict[str, Any]:
    """Return what the output says of a response."""
    generated = split_generated(continuation.text, thinking, opened=prompt.opened)
    is_forced = continuation.was_forced and generated.outcome in WITH_ANSWER
    return {
        "think": generated.think,
        "answer": generated.answer,
        "response": continuation.text,
        "outcome": "forced" if is_forced else generated.outcome,
        "finish": continuation.finish,
        "num_tokens": continuation.num_tokens,
        "opened": prompt.opened,
    }


def _open_all(
    questions: Sequence[Question], responder: Responder, config: AskConfig, skipped: list[str]
) -> dict[str, OpenedPrompt]:
    """Return the prompts as the model reads them, by id; one that it cannot read is an error or skipped."""
    opened: dict[str, OpenedPrompt] = {}
    for question in questions:
        try:
            opened[question.id] = responder.open_prompt(
                question.messages, question.id, question.tools, question.switches
            )
        except DataError as error:
            refused = error.at(question.where) if question.where else error
            if config.data.on_bad_row == "error" or not config.prompts:
                raise refused from None
            skipped.append(str(refused))
    return opened


def _ask_rest(
    questions: Sequence[Question],
    opened: dict[str, OpenedPrompt],
    responder: Responder,
    sampling: Sampling,
    answers: Answers,
    config: AskConfig,
    thinking: Thinking,
) -> None:
    """Ask what has no response yet, the longest prompts first, so that memory runs out at once or never."""
    rest = [question for question in questions if question.id not in answers.ids]
    rest.sort(key=lambda question: -len(opened[question.id].ids))
    progress = Progress(len(rest), len(questions) - len(rest))
    for first in range(0, len(rest), config.batch):
        batch = rest[first : first + config.batch]
        prompts = [opened[question.id] for question in batch]
        for question, prompt, continuation in zip(
            batch, prompts, responder.respond(prompts, sampling, progress.tick), strict=True
        ):
            answers.add({**question.kept, **response_record(continuation, prompt, thinking)})
        progress.answered(len(batch))


def _summary(questions: Sequence[Question], answers: Answers, skipped: Sequence[str], config: AskConfig) -> str:
    counts = Counter(answers.outcomes())
    lines = [f"{len(questions)} prompts: {', '.join(f'{counts[o]} {o}' for o in OUTCOMES if counts[o])}"]
    if skipped:
        lines.append(f"{len(skipped)} rows left out; the first: {skipped[0]}")
    not_read = Counter(name for question in questions for name in question.not_read)
    if not_read:
        lines.append(f"columns that were not read: {', '.join(f'{name} ({not_read[name]} rows)' for name in not_read)}")
    return "\n".join([*lines, f"responses: {config.output}"])


def _shown(record: dict[str, Any]) -> str:
    """Return a response for the terminal: the reasoning, then the answer, then what became of it."""
    facts = f"[{record['outcome']}, {record['num_tokens']} tokens, finish {record['finish']}]"
    parts = [("reasoning", record["think"]), ("answer", record["answer"])]
    if record["outcome"] == "doubled":
        parts = [("response", record["response"])]
    return "\n\n".join([*(f"{name}:\n{text}" for name, text in parts if text), facts])


def _typed(config: AskConfig) -> tuple[list[Question], list[str]]:
    """Return the prompt of the command line, or of stdin."""
    text = config.prompt or _read_stdin()
    return [Question("prompt", [{"role": "user", "content": text}], {"prompt": text}, (), {}, "", ())], []


def _read_stdin() -> str:
    if sys.stdin.isatty():
        sys.stderr.write("the prompt, then Ctrl-D on a line of its own:\n")
    text = sys.stdin.read().strip()
    if not text:
        raise ConfigError("is missing, and nothing came on stdin; give a prompt or --prompts.", flag="--prompt")
    return text
