"""The FLOPs of a document, against figures worked out by hand."""

import pytest

from alttrain.engine.data.work import WorkModel

QWEN_7B = WorkModel.from_shape(3584, 18944, 28, 28, 4, 128, 152064)


class TestWorkModel:
    def test_flops_of_the_7b_shape(self) -> None:
        """44.9 GFLOP a token at 4,096 tokens, from 7.07 billion weights in matrix products."""
        assert QWEN_7B.per_token / 6 == pytest.approx(7.07e9, rel=1e-3)
        assert QWEN_7B.work(4096) / 4096 == pytest.approx(44.9e9, rel=1e-3)

    def test_documents_do_not_attend_to_one_another(self) -> None:
        assert QWEN_7B.flops([100, 300]) == QWEN_7B.work(100) + QWEN_7B.work(300) < QWEN_7B.work(400)
