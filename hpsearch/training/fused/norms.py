"""Normalizations over each image by itself, forward and backward by hand for K trials at once.

Shapes: K = trials in the pack, B = batch, O = outputs of a layer, M = K * O, H, W = height and width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from hpsearch.errors import EngineError
from hpsearch.training.fused.layers import Layer
from hpsearch.training.layout import Stacked
from hpsearch.training.state import PackState

aten = torch.ops.aten


class GroupNorm(Layer):
    """nn.GroupNorm behind a convolution: to its kernel all trials' groups are those of one layer."""

    def __init__(self, state: PackState, name: str, trials: slice, layer: nn.GroupNorm) -> None:
        super().__init__(state, name, trials)
        if not layer.affine:
            raise EngineError(f"{name} is a group normalization without weight.")
        self._num_groups, self._eps = layer.num_groups, layer.eps
        self._kept: tuple[Tensor, ...] = ()

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        scale_M, shift_M = (cast(Tensor, self._parameter(key)).flatten() for key in ("weight", "bias"))
        sizes = len(a), a.shape[1], a.shape[2] * a.shape[3], self._num_trials * self._num_groups
        self._dtype, precise = a.dtype, a.to(scale_M.dtype)  # as under autocast, which has none in bfloat16
        output, mean, invstd = torch.native_group_norm(precise, scale_M, shift_M, *sizes, self._eps)
        self._kept = (precise, scale_M, mean, invstd)
        return output.contiguous(memory_format=torch.channels_last)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        z, scale_M, mean, invstd = self._kept
        sizes = len(z), z.shape[1], z.shape[2] * z.shape[3], self._num_trials * self._num_groups
        delta = delta.to(z.dtype).contiguous(memory_format=torch.channels_last)
        back, scale_gradient_M, shift_gradient_M = aten.native_group_norm_backward(
            delta, z, mean, invstd, scale_M, *sizes, [True, True, True]
        )
        gradients[f"{self._name}.weight"] = scale_gradient_M.view(self._num_trials, -1)
        gradients[f"{self._name}.bias"] = shift_gradient_M.view(self._num_trials, -1)
        return cast(Tensor, back.to(self._dtype).contiguous(memory_format=torch.channels_last))


class LayerNorm(Layer):
    """nn.LayerNorm behind a fully connected layer, over the units of each image."""

    def __init__(self, state: PackState, name: str, layer: nn.LayerNorm) -> None:
        super().__init__(state, name)
        if not layer.elementwise_affine or cast(Tensor | None, layer.bias) is None or len(layer.normalized_shape) != 1:
            raise EngineError(f"{name} is a layer normalization without weight or bias, or of more than units.")
        self._eps = layer.eps

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        scale_KO1, shift_KO1 = (cast(Tensor, self._parameter(key)).unsqueeze(2) for key in ("weight", "bias"))
        var_K1B, mean_K1B = torch.var_mean(a, 1, correction=0, keepdim=True)
        self._invstd_K1B = torch.rsqrt(var_K1B + self._eps)
        self._normal_KOB = (a - mean_K1B) * self._invstd_K1B
        return torch.addcmul(shift_KO1, self._normal_KOB, scale_KO1)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        normal_KOB = self._normal_KOB
        gradients[f"{self._name}.weight"] = (delta * normal_KOB).sum(2)
        gradients[f"{self._name}.bias"] = delta.sum(2)
        scaled_KOB = delta * cast(Tensor, self._parameter("weight")).unsqueeze(2)
        along = (scaled_KOB * normal_KOB).mean(1, keepdim=True)
        return (scaled_KOB - scaled_KOB.mean(1, keepdim=True) - normal_KOB * along) * self._invstd_K1B
