"""One choice of kernels for a whole world: tried once on each kind of GPU, and joined.

The first rank of each machine and kind of GPU tries the kernels there, or finds their verdicts kept; the others wait.
Then a kernel is used where it passed everywhere: all ranks take the same paths, and say the same reason.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

from alttrain.engine.config import ModelConfig
from alttrain.engine.distributed.launcher import place_name
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.kernel_choice import UNTRIED, Kernels, choose_kernels
from alttrain.engine.model.kernel_shapes import shapes_of
from alttrain.engine.proof.identity import identity_of
from alttrain.engine.proof.proving import Proof, prove
from alttrain.engine.proof.trial import Verdict
from alttrain.kernels.attention import flash_attention_3

Found = tuple[str, str, Mapping[str, Verdict]]  # the rank's name, its GPU and the verdicts


def agreed_kernels(config: ModelConfig, backbone: Backbone, world: World) -> Kernels:
    """Return the kernels that every rank runs. Collective.

    Nothing is tried where --model.kernels or the device leaves no choice. The model need not be there yet, and should
    not be: the trials use the memory of the GPU.

    Raises:
        ConfigError: as in `choose_kernels`.
    """
    if world.device.type != "cuda":
        return choose_kernels(config.kernels, world.device)
    attention = ", ".join(dict.fromkeys(world.gather(flash_attention_3(world.device))))
    if config.kernels != "auto":
        return _with_attention(choose_kernels(config.kernels, world.device), attention)
    shapes = shapes_of(backbone.config, config.dtype)
    identity = world.together(lambda: identity_of(world.device, shapes))
    kinds = world.gather((socket.gethostname(), identity))
    is_to_try = kinds.index(kinds[world.rank]) == world.rank
    proof = world.together(lambda: prove(world.device, shapes, progress=world.is_first) if is_to_try else Proof({}))
    found = world.gather((place_name(world.rank), identity["gpu"], dict(proof.verdicts)))
    verdicts = joined([each for each in found if each[2]])
    where = ", ".join(dict.fromkeys(gpu for _, gpu, _ in found))
    notes = [note for note in world.gather(proof.note) if note]
    kernels = replace(choose_kernels("auto", world.device, verdicts, where), note=notes[0] if notes else "")
    return _with_attention(kernels, attention)


def _with_attention(kernels: Kernels, attention: str) -> Kernels:
    """Add to the reason what attention runs on, where that is not torch's own."""
    if not attention or kernels.paths.attention == "torch":
        return kernels
    return replace(kernels, reason=f"{kernels.reason}; attention by {attention}")


def joined(found: Sequence[Found]) -> dict[str, Verdict]:
    """Return the verdict of each kernel over all that tried it: the first that it did not pass, with who found it.

    A kernel that somebody has no verdict of has not passed.
    """
    verdicts: dict[str, Verdict] = {}
    for name in dict.fromkeys(name for _, _, of in found for name in of):
        each = [(rank, of.get(name, UNTRIED)) for rank, _, of in found]
        rank, verdict = next(((rank, verdict) for rank, verdict in each if not verdict.passed), each[0])
        if not verdict.passed and len(found) > 1:
            verdict = Verdict(verdict.outcome, f"on {rank}, {verdict.reason}", verdict.seconds)
        verdicts[name] = verdict
    return verdicts
