"""A plan as text: two columns, the run as it stands and the fastest setting that fits, and what to type for that."""

from alttrain.engine.train.fitting import PERCENT
from alttrain.engine.train.gpus import GIB, GPUS
from alttrain.engine.train.plan import Option, Plan, changes
from alttrain.engine.train.time_model import Machine

DISCLAIMER = (
    "Times are predicted: no GPU has run this. Memory is the allocator's, counted on a device that computes nothing; "
    f"the model of it is within {PERCENT}% of those counts. Start, evaluations, checkpoints and export come on top."
)

QWEN3 = "No Qwen3 was among the counted, so that its memory is predicted too."


def written(plan: Plan) -> str:
    """Return the plan as lines of text, the last one newline-terminated."""
    lines = [
        f"model: {plan.config.model.path}, {plan.model.shape.num_parameters / 1e9:.2f} billion parameters, "
        f"{plan.model.source}",
        f"rows: {plan.rows.source}",
        f"machine: {machine_name(plan.machine)}, {plan.machine.gpu.memory / GIB:.1f} GiB on each",
        *plan.notes,
    ]
    options = {"as it stands": plan.asked}
    if plan.best and changes(plan.config, plan.best):
        options["fastest that fits"] = plan.best
    lines += ["", *_columns(plan, options), "", *_advice(plan), f"in short: {figures(plan)}"]
    lines.append(f"{DISCLAIMER} {QWEN3}" if plan.model.shape.family == "qwen3" else DISCLAIMER)
    return "\n".join(lines) + "\n"


def figures(plan: Plan) -> str:
    """Return a plan in one or two sentences, as recipes have them: the run as it stands, and the fastest that fits."""
    text = f"{machine_name(plan.machine)}: {_short(plan.asked)}."
    if plan.best and (flags := changes(plan.config, plan.best)):
        text += f" With {_flags(flags)} {_short(plan.best)}."
    return text


def machine_name(machine: Machine) -> str:
    """Return a machine in words."""
    count = f"{machine.gpus} x {machine.gpu.title}"
    return count if machine.nodes == 1 else f"{machine.nodes} nodes of {count}"


def _short(option: Option) -> str:
    fits = "" if option.fits else ", which does not fit"
    return (
        f"{option.memory.peak / GIB:.1f} GiB of {option.machine.gpu.memory / GIB:.1f} a GPU{fits}, "
        f"{_recomputed(option)} recomputed, "
        f"{1e3 * option.time.seconds:,.0f} ms a step of {option.load.tokens_a_step:,.0f} tokens, "
        f"{option.load.num_steps:,} steps in {60 * option.hours:.1f} minutes"
    )


def _recomputed(option: Option) -> str:
    count = option.layout.num_recomputed(option.shape)
    if not count:
        return "nothing"
    layers = "all layers" if count == option.shape.layers else f"{count} of {option.shape.layers} layers"
    return f"all but products of {layers}" if option.layout.checkpointing == "selective" else layers


def _columns(plan: Plan, options: dict[str, Option]) -> list[str]:
    rows: list[tuple[str, list[str]]] = [("", list(options))]
    every = list(options.values())

    def row(title: str, values: list[str]) -> None:
        rows.append((title, values))

    row("--zero.stage", [_stage(o) for o in every])
    chosen = "auto: " if plan.config.model.checkpointing == "auto" else ""
    row("--model.checkpointing", [chosen + every[0].recomputation, *(o.recomputation for o in every[1:])])
    row("--batch.pack-tokens", [str(o.config.batch.pack_tokens) for o in every])
    row("--optim.moments, .master", [f"{o.layout.moments}, {o.layout.master}" for o in every])
    rows.append(("memory of each GPU, all ranks alike, GiB", []))
    for part in _parts([o.memory.held for o in every]):
        row(f"  {part}", [_gib(o.memory.held.get(part, 0)) for o in every])
    for part in _parts([_passing(o) for o in every]):
        row(f"  {part}", [_gib(_passing(o).get(part, 0)) for o in every])
    row("  peak", [f"{_gib(o.memory.peak)} {o.memory.peak_moment}" for o in every])
    row("  fits", ["yes" if o.fits else f"no, {_gib(o.needed)} needed" for o in every])
    rows.append(("predicted time of a step, ms", []))
    for part in _parts([o.time.device for o in every]):
        row(f"  {part}", [f"{1e3 * o.time.device.get(part, 0):.1f}" for o in every])
    row("  communication", [f"{1e3 * o.time.waiting:.1f}" for o in every])
    row("  Python beside it", [f"{1e3 * o.time.host:.1f}" for o in every])
    row("  the step", [f"{1e3 * o.time.seconds:.0f}{_limit(o)}" for o in every])
    row("tokens a step", [f"{o.load.tokens_a_step:,.0f}" for o in every])
    row("fullest pack, tokens", [f"{o.load.fullest_pack:,}" for o in every])
    row("tokens a second", [f"{o.load.tokens_a_step / o.time.seconds:,.0f}" for o in every])
    row("MFU", [f"{100 * o.mfu:.0f}%" for o in every])
    row("steps", [f"{o.load.num_steps:,}" for o in every])
    row("hours", [f"{o.hours:.2f}" for o in every])
    if plan.config.plan.price:
        row("cost", [f"{o.hours * o.machine.world_size * plan.config.plan.price:,.2f}" for o in every])
    wide = max(len(title) for title, _ in rows)
    column = max(len(value) for _, values in rows for value in values) + 2
    return [
        (title.ljust(wide + 2) + "".join(value.ljust(column) for value in values)).rstrip() for title, values in rows
    ]


def _advice(plan: Plan) -> list[str]:
    lines = []
    idle = plan.best or plan.way_out or plan.asked
    if idle.load.idle_ranks > 0.05:
        lines.append(
            f"{100 * idle.load.idle_ranks:.0f}% of the ranks' packs are empty: a step has fewer rows than there are "
            "ranks. Raise --batch.examples, or take fewer GPUs."
        )
    if plan.best:
        flags = changes(plan.config, plan.best)
        lines.append(f"type: {_flags(flags)}" if flags else "No other setting that fits is faster by 5% or more.")
    elif plan.way_out:
        machine = plan.way_out.machine
        names = {gpu: name for name, gpu in GPUS.items()}
        where = [f"--plan.gpu {names[machine.gpu]} --plan.gpus {machine.gpus} --plan.nodes {machine.nodes}"]
        typed = _flags(changes(plan.config, plan.way_out))
        lines.append(
            f"Nothing fits on {machine_name(plan.machine)}. On {machine_name(machine)} it does: "
            f"{' '.join([*where, typed]).strip()}"
        )
    else:
        lines.append(
            "Nothing fits on any machine that is known here. Shorten the rows: --data.too-long cut with a smaller "
            "--batch.pack-tokens."
        )
    return lines


def _parts(options: list[dict[str, int]] | list[dict[str, float]]) -> list[str]:
    """Return the parts that any of the options has, in their order."""
    return list(dict.fromkeys(part for parts in options for part, value in parts.items() if value))


def _passing(option: Option) -> dict[str, int]:
    return option.memory.passing[option.memory.peak_moment]


def _stage(option: Option) -> str:
    return "1 (one process)" if option.layout.is_one_process else str(option.layout.stage)


def _limit(option: Option) -> str:
    return " (waits for Python)" if option.time.host > sum(option.time.device.values()) else ""


def _flags(flags: dict[str, str]) -> str:
    return " ".join(f"{flag} {value}" for flag, value in flags.items())


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}"
