"""Convolutional layers, forward and backward by hand for K trials at once.

Shapes: K = trials in the pack, B = batch, C = channels of an image, I, O = channels in and out, M = K * O, H, W =
height and width (of a filter where I is there, too).

Outputs are a_BMHW in channels-last memory. The first convolution, where all trials see the same images, is an ordinary
one with all trials' filters, and so is its weight gradient; those that follow are grouped. On a CPU, channels-last
kernels take a fraction of the time of others: grouped convolutions a quarter, max pools a twelfth (torch 2.15). On
CUDA these layers are one of two ways: see `convolution_choice`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from hpsearch.errors import EngineError
from hpsearch.training.engine import widest_layer
from hpsearch.training.fused.layers import Layer
from hpsearch.training.fused.noises import ChannelDropout
from hpsearch.training.layout import Stacked
from hpsearch.training.noise import noise_state, set_noise_state
from hpsearch.training.state import PackState

aten = torch.ops.aten

# Numbers of the widest output that are in work at a time on a CPU: 16 MiB in float32. Larger outputs get fresh pages in
# every step: 32 LeNets took 35,000 page faults and 6.9 ms a trial at once, 800 and 4.4 ms in four groups (docs/log.md).
CPU_NUMBERS = 2**22

Make = Callable[[slice], list[Layer]]


class Convolutions(Layer):
    """All layers up to Flatten, on a CPU for as many trials at a time as CPU_NUMBERS says.

    Args:
        state: of the pack.
        module: these layers, for the sizes of their outputs.
        make: gives them for some of the trials.
    """

    def __init__(self, state: PackState, module: nn.Module, make: Make) -> None:
        super().__init__(state, "")
        self._module, self._make = module, make
        self._groups: list[list[Layer]] = []
        self._sizes: list[int] = []  # trials of each group
        self._most_images = 0  # at a time, in evaluation mode

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        if not self._groups:
            self._form_groups(tuple(a.shape[1:]))
        if buffers is None and len(a) > self._most_images:
            return torch.cat([self.forward(part, None) for part in torch.split(a, self._most_images)], dim=2)
        a = a.contiguous(memory_format=torch.channels_last)
        outputs: list[Tensor] = []
        found: list[Stacked] = []
        draws = buffers is not None and any(isinstance(layer, ChannelDropout) for layer in self._groups[0])
        before = noise_state(a.device) if draws and len(self._groups) > 1 else None
        for group in self._groups:
            if before is not None:  # all trials see the same noise
                set_noise_state(a.device, before)
            output, own = a, None if buffers is None else Stacked()
            for layer in group:
                output = layer.forward(output, own)
            outputs.append(output)
            found.append(own or {})
        if buffers is not None:
            buffers.update(_joined(found))
        return torch.cat(outputs)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        raise NotImplementedError("nothing comes before the first convolution")

    @override
    def take(self, delta: Tensor, gradients: Stacked) -> None:
        found: list[Stacked] = []
        for (first, *others), part in zip(self._groups, torch.split(delta, self._sizes), strict=True):
            own: Stacked = {}
            for layer in reversed(others):
                part = layer.backward(part, own)
            first.take(part, own)
            found.append(own)
        gradients.update(_joined(found))

    def _form_groups(self, shape: tuple[int, ...]) -> None:
        num_trials = self._state.num_trials
        numbers_per_image = widest_layer(self._module, shape)
        most_numbers = CPU_NUMBERS if self._state.lr_K.device.type == "cpu" else sys.maxsize
        numbers = numbers_per_image * self._state.train.batch_size * num_trials
        num_groups = min(num_trials, math.ceil(numbers / most_numbers))
        bounds = [num_trials * index // num_groups for index in range(num_groups + 1)]
        self._groups = [self._make(slice(*each)) for each in pairwise(bounds)]
        self._sizes = [end - start for start, end in pairwise(bounds)]
        self._most_images = max(1, most_numbers // (numbers_per_image * max(self._sizes)))


def _joined(found: list[Stacked]) -> Stacked:
    """One after the other along the trials."""
    if len(found) == 1:
        return found[0]
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


class Conv2d(Layer):
    """nn.Conv2d without groups. In bfloat16 what comes in, goes out and comes back is, too, as under autocast."""

    def __init__(self, state: PackState, name: str, trials: slice, layer: nn.Conv2d) -> None:
        super().__init__(state, name, trials)
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise EngineError(f"{name} is a convolution in groups, or with another padding than a number of zeros.")
        self._bfloat16 = state.train.precision == "bfloat16"
        self.geometry = tuple(cast(tuple[int, int], each) for each in (layer.stride, layer.padding, layer.dilation))
        """Strides, padding and dilation, each along height and width."""
        self._arguments = (*self.geometry, False, (0, 0))
        self._kept: tuple[Tensor, Tensor, int] | None = None  # input, filters, groups

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        weight_KOIHW, bias_KO = cast(Tensor, self._parameter("weight")), self._parameter("bias")
        dtype = torch.bfloat16 if self._bfloat16 else a.dtype
        a, weight_MIHW = (
            tensor.to(dtype).contiguous(memory_format=torch.channels_last) for tensor in (a, weight_KOIHW.flatten(0, 1))
        )
        num_groups = a.shape[1] // weight_MIHW.shape[1]
        self._kept = (a, weight_MIHW, num_groups)
        bias_M = None if bias_KO is None else bias_KO.flatten().to(dtype)
        return cast(Tensor, aten.convolution(a, weight_MIHW, bias_M, *self._arguments, num_groups))

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        return self._back(delta, gradients, needs_input=True)

    @override
    def take(self, delta: Tensor, gradients: Stacked) -> None:
        self._back(delta, gradients, needs_input=False)

    def _back(self, delta: Tensor, gradients: Stacked, *, needs_input: bool) -> Tensor:
        assert self._kept is not None
        a, weight_MIHW, num_groups = self._kept
        mask = (needs_input, True, self._parameter("bias") is not None)
        back, *found = aten.convolution_backward(
            delta, a, weight_MIHW, weight_MIHW.shape[:1], *self._arguments, num_groups, mask
        )
        for key, gradient in zip(("weight", "bias"), found, strict=True):
            parameter = self._parameter(key)
            if parameter is not None:
                gradients[f"{self._name}.{key}"] = gradient.to(parameter.dtype).contiguous().view_as(parameter)
        return cast(Tensor, back)


class MaxPool2d(Layer):
    """nn.MaxPool2d."""

    def __init__(self, state: PackState, name: str, trials: slice, layer: nn.MaxPool2d) -> None:
        super().__init__(state, name, trials)
        if layer.return_indices:
            raise EngineError(f"{name} is a pool that returns its indices.")
        sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        self._geometry = (*((size, size) if isinstance(size, int) else size for size in sizes), layer.ceil_mode)
        self._shape = torch.Size()
        self._indices = torch.empty(0)

    @property
    def is_of_fours(self) -> bool:
        """Whether each maximum is that of 2 x 2 numbers, which no other one sees; a last odd row or column is left."""
        return self._geometry == ((2, 2), (2, 2), (0, 0), (1, 1), False)

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        output, self._indices = aten.max_pool2d_with_indices(a, *self._geometry)
        self._shape = a.shape
        return cast(Tensor, output)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        # The kernel looks at the input's shape alone, so its numbers need not be kept.
        a = torch.empty(self._shape, dtype=delta.dtype, device=delta.device, memory_format=torch.channels_last)
        return cast(Tensor, aten.max_pool2d_with_indices_backward(delta, a, *self._geometry, self._indices))


class AvgPool2d(Layer):
    """nn.AvgPool2d."""

    def __init__(self, state: PackState, name: str, trials: slice, layer: nn.AvgPool2d) -> None:
        super().__init__(state, name, trials)
        sizes = (layer.kernel_size, layer.stride, layer.padding)
        places = (list(size) if isinstance(size, tuple) else [size, size] for size in sizes)
        self._geometry = (*places, layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
        self._shape = torch.Size()

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        self._shape = a.shape
        return cast(Tensor, aten.avg_pool2d(a, *self._geometry))

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        a = torch.empty(self._shape, dtype=delta.dtype, device=delta.device, memory_format=torch.channels_last)
        return cast(Tensor, aten.avg_pool2d_backward(delta, a, *self._geometry))


class Flatten(Layer):
    """nn.Flatten behind convolutions: a_BMHW to a_KIB."""

    _kept: tuple[torch.dtype, torch.Size] | None = None  # of the input

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        self._kept = a.dtype, a.shape
        a_BKOHW = a.view(len(a), self._num_trials, -1, *a.shape[2:])
        a_KIB = a_BKOHW.permute(1, 2, 3, 4, 0).reshape(self._num_trials, -1, len(a))
        return a_KIB.to(self._state.cost_sum_K.dtype)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        assert self._kept is not None
        dtype, shape = self._kept
        delta_MHWB = delta.to(dtype).reshape(*shape[1:], -1)
        return delta_MHWB.permute(3, 0, 1, 2).contiguous(memory_format=torch.channels_last)
