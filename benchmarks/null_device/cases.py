"""What is run on the null device: the cases that `check` compares with recorded figures, and those of the table."""

from collections.abc import Iterator
from typing import NamedTuple

# Tokens of 8 examples of AltTrain, the published batch, and of a full pack.
PUBLISHED, FULL_PACK = 1340, 8192


class Case(NamedTuple):
    """A step of one rank."""

    model: str = "7B"
    """Of harness/shapes.py: 1.5B, 7B, 8B, 14B or 32B."""
    stage: int = 1
    checkpointing: str = "off"
    kernels: str = "triton"
    tokens: int = FULL_PACK
    """Of a pack."""
    packs: int = 1
    """Of a rank and step."""
    world: int = 1
    layers: int = 0
    """0 for all layers of the model."""
    master: str = "float32"
    """Of the optimizer: --optim.master."""
    moments: str = "auto"
    gradients: str = "auto"
    fp8: str = "off"
    """Of the products: --model.fp8."""
    recomputed: int = 0
    """Layers that checkpointing recomputes; 0 for all."""

    @property
    def name(self) -> str:
        """What figures of the case are called."""
        layers = f", {self.layers} layers" if self.layers else ""
        packs = f"{self.packs} x " if self.packs > 1 else ""
        master = "" if self.master == "float32" else f", master {self.master}"
        recomputed = f" of {self.recomputed} layers" if self.recomputed else ""
        others = {"moments": self.moments, "gradients": self.gradients}
        master += "".join(f", {name} {dtype}" for name, dtype in others.items() if dtype != "auto")
        products = "" if self.fp8 == "off" else f", float8 {self.fp8}"
        machine = f"{self.world} GPU{'s' if self.world > 1 else ''}, ZeRO {self.stage}, {self.kernels}"
        return (
            f"{self.model}{layers}, {machine}, {packs}{self.tokens} tokens, "
            f"checkpointing {self.checkpointing}{recomputed}{master}{products}"
        )


def short_cases() -> Iterator[Case]:
    """Two layers of the 7B's widths, in one process and on ZeRO 1 to 3: seconds each, as the test suite runs them."""
    yield Case("7B", tokens=2048, layers=2)
    yield Case("7B", tokens=2048, layers=2, kernels="torch")
    for stage in (1, 2, 3):
        yield Case("7B", stage=stage, tokens=2048, layers=2, world=8)
    for scaling in ("rowwise", "tensorwise"):
        yield Case("7B", tokens=2048, layers=2, fp8=scaling)


def check_cases() -> Iterator[Case]:
    """Everything that `check` compares: the short ones, checkpointing, and whole models on one GPU."""
    yield from short_cases()
    for checkpointing in ("selective", "full"):
        yield Case("7B", tokens=2048, layers=2, checkpointing=checkpointing)
    yield Case("7B", tokens=2048, layers=4, checkpointing="full", recomputed=2)
    yield Case("8B", tokens=2048, packs=2, layers=2)
    yield Case("7B", tokens=PUBLISHED)
    yield Case("7B")
    yield Case("8B", tokens=2 * FULL_PACK)
    yield Case("14B", checkpointing="full", master="bfloat16")
    yield Case("14B", checkpointing="full", master="bfloat16", recomputed=28)


def table_cases() -> Iterator[Case]:
    """The table: what a user of one GPU and of eight runs, the most telling first."""
    sizes = [(checkpointing, tokens) for checkpointing in ("off", "full") for tokens in (FULL_PACK, PUBLISHED)]
    for model in ("7B", "8B", "1.5B"):
        yield Case(model, tokens=2 * FULL_PACK)
        for checkpointing, tokens in sizes:
            yield Case(model, checkpointing=checkpointing, tokens=tokens)
    for tokens in (FULL_PACK, PUBLISHED):
        yield Case("14B", checkpointing="full", tokens=tokens, master="bfloat16")
    yield Case("14B", checkpointing="full", master="bfloat16", recomputed=28)
    yield Case("14B", tokens=PUBLISHED, master="bfloat16")
    for stage in (2, 1, 3):
        for model in ("7B", "14B", "32B"):
            yield Case(model, stage=stage, checkpointing="off" if model == "7B" else "full", world=8)
    for checkpointing, tokens in sizes:
        yield Case("7B", checkpointing=checkpointing, tokens=tokens, kernels="torch")
