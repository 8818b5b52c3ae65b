"""The verdict of one kernel's trials: the first that it does not pass, in one line; nothing raises."""

from collections.abc import Iterator

import pytest
import torch

from alttrain.engine.proof.judge import Results
from alttrain.engine.proof.trial import REASON_LENGTH, Trial, Verdict, judge_kernel, one_line
from alttrain.kernels.backend import Backend

TRUTH = torch.linspace(1, 2, 8, dtype=torch.float64).view(2, 4)


def trial(what: str = "two rows", **ours: torch.Tensor) -> Trial:
    """Return a trial whose kernel gives `ours` beside PyTorch's right y."""
    own = {"y": TRUTH.float(), "n": torch.tensor([3])}
    return Trial(what, lambda backend: own if backend == "torch" else own | ours, lambda: {"y": TRUTH})


def raising(at: str) -> Trial:
    def run(backend: Backend) -> Results:
        if backend == at:
            raise RuntimeError("at 1:2:\nline of code\n\nerror: no such   thing")
        return {"y": TRUTH.float()}

    return Trial("a case", run, lambda: {"y": TRUTH})


def test_what_is_right_passes() -> None:
    verdict = judge_kernel(lambda: [trial(), trial()])
    assert verdict == Verdict("passed", "", verdict.seconds)
    assert verdict.passed


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ({"y": TRUTH.float() * 1.1}, "two rows: y is off by 1.0e-01, PyTorch's by 2.4e-08"),
        ({"n": torch.tensor([4])}, "two rows: n differs in 1 of 1 places"),
        ({"extra": torch.tensor([4])}, "two rows: gives y, n, extra"),
    ],
)
def test_the_first_wrong_trial_is_the_reason(ours: Results, reason: str) -> None:
    verdict = judge_kernel(lambda: [trial("fine"), trial(**ours), raising("triton")])
    assert (verdict.outcome, verdict.passed) == ("wrong", False)
    assert verdict.reason.startswith(reason[:30])
    assert verdict.reason.split(":")[0] == "two rows"


def test_whatever_raises_is_a_reason_of_one_line() -> None:
    ours, own = (judge_kernel(lambda at=at: [raising(at)]) for at in ("triton", "torch"))  # type: ignore[misc]
    assert ours.reason == "a case: RuntimeError: error: no such thing"
    assert own.reason == "a case: PyTorch: RuntimeError: error: no such thing"
    assert (ours.torch_failed, own.torch_failed) == (False, True)

    def broken() -> Iterator[Trial]:
        yield trial("the first")
        raise MemoryError

    verdict = judge_kernel(broken)
    assert (verdict.outcome, verdict.reason) == ("raised", "after the first: MemoryError")


def test_what_pytorch_gets_wrong_is_its_own() -> None:
    wrong = {"y": TRUTH.float() * 1.1, "n": torch.tensor([3])}
    verdict = judge_kernel(lambda: [Trial("a case", lambda backend: wrong, lambda: {"y": TRUTH})])
    assert (verdict.outcome, verdict.torch_failed) == ("wrong", True)
    assert verdict.reason == "a case: PyTorch's own y is off by 1.0e-01"


def test_a_device_of_zeros_proves_nothing() -> None:
    zeros = {"y": torch.zeros(2, 4)}
    verdict = judge_kernel(lambda: [Trial("", lambda backend: zeros, lambda: {"y": torch.zeros(2, 4).double()})])
    assert (verdict.outcome, verdict.reason) == ("raised", "the device gives nothing but zeros")


def test_bits_may_differ_in_a_few_places_only() -> None:
    def rounded(count: int) -> Trial:
        own = torch.ones(1000, dtype=torch.bfloat16)
        ours = own.clone()
        ours[:count] = 2.0
        values = {"y": TRUTH.float()}
        return Trial(
            "bits", lambda backend: values | {"b": own if backend == "torch" else ours}, lambda: {"y": TRUTH}, ("b",)
        )

    assert judge_kernel(lambda: [rounded(10)]).passed
    assert judge_kernel(lambda: [rounded(30)]).reason == "bits: b differs in 3% of its bits"


def test_a_reason_is_short() -> None:
    assert len(one_line(ValueError("word " * 500))) <= REASON_LENGTH
    assert one_line(ValueError()) == "ValueError"
