"""The shapes that have names: those of a real model, and small ones that no block or vector divides."""

import json

from alttrain.engine.proof.shapes import DEFAULT_SHAPES, SMALL_SHAPES, KernelShapes


def test_shapes_survive_json() -> None:
    for shapes in (DEFAULT_SHAPES, SMALL_SHAPES):
        assert KernelShapes(**json.loads(json.dumps(shapes.as_dict()))) == shapes


def test_heads_are_grouped_and_even() -> None:
    for shapes in (DEFAULT_SHAPES, SMALL_SHAPES):
        assert shapes.num_heads % shapes.num_kv_heads == 0 < shapes.num_heads - shapes.num_kv_heads
        assert shapes.head_dim % 2 == 0


def test_small_shapes_leave_a_remainder_everywhere() -> None:
    sizes = (SMALL_SHAPES.hidden_size, SMALL_SHAPES.intermediate_size, SMALL_SHAPES.vocab_size, SMALL_SHAPES.head_dim)
    assert all(size % 16 for size in sizes)
