"""Convolutions with what follows them by kernels of Triton, for K trials at once, forward and backward.

Shapes: K = trials in the pack, B = batch, I, O = channels in and out, M = K * O, H, W = height and width (of a filter
where I is there, too), S = programs that share the places of one trial. What comes in and goes out is a_BMHW in
channels-last memory, as in `convolutions`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from hpsearch.training.fused.convolutions import Conv2d, MaxPool2d
from hpsearch.training.fused.layers import ACTIVATIONS, Activation, Layer
from hpsearch.training.layout import Stacked

ROWS = 64  # places of an output that a program takes at a time
DEPTH = 32  # numbers of a patch that it multiplies at a time
MIN_COLUMNS, MAX_COLUMNS = 16, 64  # channels of a program; fewer than 16 are no tile of a product
DOUBLE = 16  # rows and depth in float64, whose products are no tiles
SPAN = 512  # places, at least, over which a program sums up a gradient
SHARED = 2**17  # numbers of a trial's gradient in all its programs, at most: 512 KiB in float32

NAMES = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}


@dataclass(frozen=True)
class Run:
    """A convolution and what follows it, as far as one kernel does it all."""

    conv: Conv2d
    pools: bool = False
    activation: type[nn.Module] | None = None
    num_layers: int = 1

    @staticmethod
    def of(layers: list[Layer]) -> Run | None:
        """That with which they begin, if they begin with a convolution."""
        if not layers or not isinstance(layers[0], Conv2d):
            return None
        num_layers, activation = 1, None
        pools = len(layers) > 1 and isinstance(layers[1], MaxPool2d) and layers[1].is_of_fours
        num_layers += pools
        following = layers[num_layers] if len(layers) > num_layers else None
        if isinstance(following, Activation) and following.kind in NAMES:
            num_layers, activation = num_layers + 1, following.kind
        return Run(layers[0], pools, activation, num_layers)


class BatchedConvolution(Layer):
    """A `Run` in one kernel forward and two back, as exact as operators are.

    Raises:
        ImportError: there is no Triton.
        Exception: of Triton, which cannot compile for this device, or not here; with the first use.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.conv._state, run.conv._name, run.conv._trials)
        self._run = run
        self._bfloat16 = self._state.train.precision == "bfloat16"
        self._kept: tuple[Tensor, Tensor, Tensor, Tensor | None] | None = None  # input, filters, output, places

    @cached_property
    def _kernels(self) -> Any:
        from hpsearch.training.fused import convolution_kernels

        return convolution_kernels

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        dtype = torch.bfloat16 if self._bfloat16 else a.dtype
        a = a.to(dtype).contiguous(memory_format=torch.channels_last)
        weight_KOIHW, bias_KO = cast(Tensor, self._parameter("weight")), self._parameter("bias")
        weight_KOIHW = weight_KOIHW.to(dtype).contiguous()
        if bias_KO is not None:
            # As operators round it, in float32, which the kernel adds it to.
            bias_KO = bias_KO.to(dtype).to(torch.promote_types(dtype, torch.float32)).contiguous()
        num_trials, num_outputs = weight_KOIHW.shape[:2]
        height, width = self._output_size(a, weight_KOIHW)
        output = _channels_last(a, num_trials * num_outputs, height, width)
        places = torch.empty_like(output, dtype=torch.uint8) if self._run.pools and buffers is not None else None
        num_rows = len(a) * height * width
        sizes = self._tiles(a, num_outputs)
        grid = (num_trials * -(-num_rows // sizes["ROWS"]), -(-num_outputs // sizes["COLUMNS"]))
        with _on_device_of(a):
            self._kernels.forward[grid](
                a, weight_KOIHW, bias_KO, _bits(output), places, num_rows, num_trials, *_steps(a, weight_KOIHW),
                **self._sizes(a, weight_KOIHW, output), **sizes, NARROW=self._bfloat16,
                ACTIVATION="none" if self._run.activation is None else NAMES[self._run.activation],
            )  # fmt: skip
        self._kept = (a, weight_KOIHW, output, places)
        return output

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        delta = self._before_activation(delta)
        self._add_gradients(delta, gradients)
        return self._input_gradient(delta)

    @override
    def take(self, delta: Tensor, gradients: Stacked) -> None:
        self._add_gradients(self._before_activation(delta), gradients)

    def _before_activation(self, delta: Tensor) -> Tensor:
        """The derivative by what it took in: a number for each output, whatever the pool had before it."""
        assert self._kept is not None
        _, _, output, _ = self._kept
        delta = delta.to(output.dtype).contiguous(memory_format=torch.channels_last)
        if self._run.activation is not None:
            _, derivative, _ = ACTIVATIONS[self._run.activation]
            delta = derivative(delta, output).contiguous(memory_format=torch.channels_last)
        return delta

    def _add_gradients(self, delta: Tensor, gradients: Stacked) -> None:
        assert self._kept is not None
        a, weight_KOIHW, output, places = self._kept
        num_trials, num_outputs = weight_KOIHW.shape[:2]
        num_rows, depth = delta.numel() // delta.shape[1], weight_KOIHW[0, 0].numel()
        sizes = self._tiles(a, num_outputs)
        span = _span(num_rows, weight_KOIHW[0].numel(), sizes["ROWS"])
        num_shares = -(-num_rows // span)
        weight, bias = cast(Tensor, self._parameter("weight")), self._parameter("bias")
        partial = weight.new_empty(num_shares, *weight.shape)
        partial_bias = None if bias is None else bias.new_empty(num_shares, *bias.shape)
        grid = (num_trials * num_shares, -(-num_outputs // sizes["COLUMNS"]), -(-depth // sizes["DEPTH"]))
        with _on_device_of(a):
            self._kernels.weight_gradient[grid](
                a, delta, places, partial, partial_bias, num_rows, num_trials, *_steps(a, weight_KOIHW), span,
                **self._sizes(a, weight_KOIHW, output), **sizes,
            )  # fmt: skip
        gradients[f"{self._name}.weight"] = partial.sum(0)
        if partial_bias is not None:
            gradients[f"{self._name}.bias"] = partial_bias.sum(0)

    def _input_gradient(self, delta: Tensor) -> Tensor:
        assert self._kept is not None
        a, weight_KOIHW, output, places = self._kept
        num_trials, _, num_inputs = weight_KOIHW.shape[:3]
        if a.shape[1] != num_trials * num_inputs:
            raise NotImplementedError("nothing comes before the first convolution")
        back = torch.empty_like(a, memory_format=torch.channels_last)
        num_rows = a.numel() // a.shape[1]
        sizes = self._tiles(a, num_inputs)
        grid = (num_trials * -(-num_rows // sizes["ROWS"]), -(-num_inputs // sizes["COLUMNS"]))
        with _on_device_of(a):
            self._kernels.input_gradient[grid](
                delta, places, weight_KOIHW, _bits(back), num_rows, num_trials,
                **self._sizes(a, weight_KOIHW, output), **sizes, NARROW=self._bfloat16,
            )  # fmt: skip
        return back

    def _output_size(self, a: Tensor, weight_KOIHW: Tensor) -> list[int]:
        stride, padding, dilation = self._run.conv.geometry
        by_side = zip(a.shape[2:], weight_KOIHW.shape[3:], stride, padding, dilation, strict=True)
        convolved = [
            (side + 2 * pad - apart * (kernel - 1) - 1) // step + 1 for side, kernel, step, pad, apart in by_side
        ]
        return [side // 2 if self._run.pools else side for side in convolved]

    def _sizes(self, a: Tensor, weight_KOIHW: Tensor, output: Tensor) -> dict[str, Any]:
        """What is compiled into a kernel; K and B are not."""
        names = ("OUTPUTS", "INPUTS", "KERNEL_H", "KERNEL_W", "H", "W", "OUT_H", "OUT_W")
        found = dict(zip(names, (*weight_KOIHW.shape[1:], *a.shape[2:], *output.shape[2:]), strict=True))
        for name, (high, wide) in zip(("STRIDE", "PAD", "DILATION"), self._run.conv.geometry, strict=True):
            found |= {f"{name}_H": high, f"{name}_W": wide}
        return {**found, "POOL": self._run.pools}

    def _tiles(self, a: Tensor, num_channels: int) -> dict[str, Any]:
        types = self._kernels.tl
        return {
            **tiles(a.dtype, num_channels),
            # As the operators round whose place they take.
            "PRECISION": "tf32" if torch.backends.cudnn.allow_tf32 else "ieee",
            "SUMS": types.float64 if a.dtype == torch.float64 else types.float32,
        }


def tiles(dtype: torch.dtype, num_channels: int) -> dict[str, int]:
    """What a program takes of an output with so many channels of each trial."""
    is_double = dtype == torch.float64
    return {
        "ROWS": DOUBLE if is_double else ROWS,
        "COLUMNS": min(max(1 << (num_channels - 1).bit_length(), MIN_COLUMNS), MAX_COLUMNS),
        "DEPTH": DOUBLE if is_double else DEPTH,
    }


def _channels_last(like: Tensor, num_channels: int, height: int, width: int) -> Tensor:
    shape = (len(like), num_channels, height, width)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _span(num_rows: int, num_weights: int, tile: int) -> int:
    """Over how many places a program sums up, whole tiles; K plays no part in it, so that no trial's sums do."""
    num_shares = min(-(-num_rows // SPAN), max(1, SHARED // num_weights))
    return -(-num_rows // (num_shares * tile)) * tile


def _steps(a: Tensor, weight_KOIHW: Tensor) -> tuple[int, int]:
    """How far the next pixel is and how far the next trial's channels are, which the first layer's trials share."""
    num_inputs = weight_KOIHW.shape[2]
    return a.shape[1], 0 if a.shape[1] == num_inputs else num_inputs


def _bits(t: Tensor) -> Tensor:
    """As kernels write bfloat16."""
    return t.view(torch.uint16) if t.dtype == torch.bfloat16 else t


def _on_device_of(t: Tensor) -> AbstractContextManager[None]:
    """Triton starts kernels on the current device; in its interpreter, on a CPU, there is none."""
    device: AbstractContextManager[None] = torch.cuda.device_of(t)  # type: ignore[no-untyped-call]
    return device
