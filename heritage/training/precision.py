"""Half precision in training, where the device is quick at it.

oneDNN multiplies depthwise convolutions in bfloat16 quickly forwards and slowly backwards: their
gradient takes several times as long as in float32, which made EfficientNet slower in half
precision than in full. Here they go forwards in bfloat16 and backwards in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def half_precision(device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions within are bfloat16, unless that would be slower."""
    on_cpu = device.type == "cpu"
    quick = cpu_multiplies_bfloat16() if on_cpu else _gpu_multiplies_bfloat16(device)
    if not quick:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), _Depthwise() if on_cpu else nullcontext():
        yield


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 arithmetic; without it, bfloat16 is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _gpu_multiplies_bfloat16(device: torch.device) -> bool:
    """Whether this GPU has bfloat16 arithmetic; NVIDIA's before Ampere only imitate it."""
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


class _Depthwise(TorchFunctionMode):
    """Sends the depthwise convolutions within through `_QuickDepthwise`."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7:
            x, weight, bias, *geometry = args
            depthwise = geometry[-1] == len(weight) > 1 and weight.shape[1] == 1
            if depthwise and bias is None and not isinstance(geometry[1], str):
                return _QuickDepthwise.apply(x, weight, *geometry)
        return func(*args, **(kwargs or {}))


class _QuickDepthwise(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose gradient is taken in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *geometry: Any) -> Tensor:
        """(B, C, H, W) and (C, 1, k, k) to (B, C, h, w), bfloat16."""
        x = x.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return torch.conv2d(x, weight.bfloat16(), None, *geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        wanted = (*ctx.needs_input_grad[:2], False)
        for_x, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(),
            x.float(),
            weight.float(),
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            wanted,
        )
        return for_x, for_weight, None, None, None, None
