"""Linear layers through oneDNN: the same numbers, and every other call untouched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sentikit.classifiers.torch_model import _OneDnnLinear, fast_linear

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN"
)


@pytest.mark.parametrize("shape", [(24,), (0, 24), (5, 24), (3, 7, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_linear_layer_gives_the_same_results(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(24, 11, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        expected = layer(inputs)
        with _OneDnnLinear():
            found = layer(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_fast_linear_layer_leaves_other_precisions_and_functions_alone() -> None:
    layer, inputs = nn.Linear(24, 11).bfloat16(), torch.randn(4, 24).bfloat16()
    with torch.inference_mode():
        expected = layer(inputs)
        with _OneDnnLinear():
            assert torch.equal(layer(inputs), expected)
            assert torch.equal(torch.relu(inputs), inputs.clamp(min=0))


def test_the_fast_linear_context_can_be_re_entered() -> None:
    layer, inputs = nn.Linear(24, 11), torch.randn(4, 24)
    with torch.inference_mode():
        expected = layer(inputs)
        for _ in range(3):
            with fast_linear():
                torch.testing.assert_close(layer(inputs), expected, rtol=1e-5, atol=1e-6)
