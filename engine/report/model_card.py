"""The README of an exported model: base, data, loss weights, method and metrics, from the run's own files.

What it is called follows from the rows: AltTrain's where they have its form, a control where they were made as one.
"""

import json
from pathlib import Path
from typing import Any

from alttrain.engine.config import RunConfig
from alttrain.engine.files import read_lines
from alttrain.engine.report.public import without_folders
from alttrain.engine.report.tables import Table, cell_text, markdown_code, markdown_table

# AltTrain's form, as the run's record counts forms.
ALTTRAIN = "understanding > assessment > reasoning > answer"


def model_card(config: RunConfig, folder: Path) -> str:
    """Return the card as Markdown with the hub's front matter; its figures come from the run folder `folder`."""
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    lines = [
        *_front_matter(config, record["data"]["train"]),
        *_method(config, record),
        *_loss_weights(config),
        *_data(record["data"]),
        *_metrics(folder),
        "",
    ]
    return without_folders("\n".join(lines), record)


def _front_matter(config: RunConfig, train: dict[str, Any]) -> list[str]:
    is_on_the_hub = not config.model.random_init and not Path(config.model.path).exists()
    return [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        # A JSON string is a YAML string too, so any path is quoted correctly.
        *([f"base_model: {json.dumps(config.model.path, ensure_ascii=False)}"] if is_on_the_hub else []),
        f"tags: [{', '.join(_tags(train))}]",
        "---",
        f"# {_title(train)}",
        "",
    ]


def _controls(train: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in train.get("structures", {}).items() if name != "full"}


def _tags(train: dict[str, Any]) -> list[str]:
    if _controls(train):
        return ["alttrain-control"]
    return ["alttrain", "safety", "reasoning"] if ALTTRAIN in train.get("forms", {}) else ["alttrain"]


def _title(train: dict[str, Any]) -> str:
    if controls := _controls(train):
        return f"A control of AltTrain: {', '.join(controls)}"
    return "Aligned by reasoning structure" if ALTTRAIN in train.get("forms", {}) else "Fine-tuned with alttrain"


def _what_it_is(train: dict[str, Any]) -> str:
    """Return a sentence that says in how many rows the traces have AltTrain's form."""
    form = "understanding, assessment, reasoning that depends on it, answer (AltTrain, arXiv 2604.18946)"
    if controls := _controls(train):
        names = ", ".join(f"`{name}` in {count} rows" for name, count in controls.items())
        return f"Its traces were made as a control of AltTrain ({names}), to be compared with it, and not as its own."
    count = train.get("forms", {}).get(ALTTRAIN, 0)
    if not count:
        return f"No trace has the form {form}."
    return f"{count} of {train['examples']} traces have the form {form}."


def _method(config: RunConfig, record: dict[str, Any]) -> list[str]:
    optim, schedule = config.optim, config.schedule
    length = f"{schedule.steps} steps" if schedule.steps else f"{schedule.epochs} epochs"
    step = f"at most {config.batch.tokens} tokens" if config.batch.tokens else f"{config.batch.examples} examples"
    start = "random weights" if config.model.random_init else markdown_code(config.model.path)
    rows = [
        ("length", f"{length}, {record['num_steps']} optimizer steps of {step}"),
        (
            "optimizer",
            f"AdamW, lr {optim.lr:g}, betas {optim.betas[0]:g} and {optim.betas[1]:g}, "
            f"weight decay {optim.weight_decay:g}, gradient norm at most {optim.max_grad_norm:g}",
        ),
        ("schedule", f"{schedule.warmup_steps} warm-up steps, then cosine to 0"),
        ("weights", f"{config.model.dtype}; float32 masters, moments and gradient accumulation"),
        ("seed, ranks, ZeRO stage", f"{config.seed}, {record['world_size']}, {config.zero.stage}"),
        ("versions", cell_text(record["versions"])),
        *(
            (f"resumed after step {start['step']}", "; ".join(start["changes"]) or "nothing changed")
            for start in record.get("starts", [])[1:]
        ),
    ]
    return [
        f"Supervised fine-tuning of {start} with alttrain. {_what_it_is(record['data']['train'])}",
        "",
        markdown_table(Table(("setting", "value"), rows)),
        "",
    ]


def _loss_weights(config: RunConfig) -> list[str]:
    weights = config.loss.weights()
    return [
        "## Loss weights",
        f"The loss of a step is the weighted sum of token losses over one denominator for all ranks, per "
        f"`{config.loss.per}`.",
        "",
        markdown_table(Table(list(weights), [[f"{weight:g}" for weight in weights.values()]])),
        "",
    ]


def _data(data: dict[str, Any]) -> list[str]:
    rows = [(name, cell_text(value)) for name, value in data["train"].items()]
    return [
        "## Data",
        f"Files: {', '.join(markdown_code(name) for name in data['files'])}.",
        "",
        markdown_table(Table(("training data", "value"), rows)),
        "",
    ]


def _metrics(folder: Path) -> list[str]:
    steps, evaluations = read_lines(folder / "metrics.jsonl"), read_lines(folder / "eval.jsonl")
    lines = ["## Metrics"]
    if steps:
        lines += [
            f"Training loss {steps[0]['loss']:.4f} at step 1, {steps[-1]['loss']:.4f} at step {steps[-1]['step']}."
        ]
    if len(evaluations) > 1:
        first, last = evaluations[0], evaluations[-1]
        rows = [(role, f"{value:.4f}", f"{last['nll'][role]:.4f}") for role, value in first["nll"].items()]
        lines += [
            "Held-out nll by role, before and after:",
            "",
            markdown_table(Table(("role", f"step {first['step']}", f"step {last['step']}"), rows)),
        ]
    return [*lines, "", "Safety and capability have to be measured on this model before it is used."]
