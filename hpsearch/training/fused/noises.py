"""Layers that drop units or weights, forward and backward by hand for K trials at once: one noise for all of them.

Shapes: K = trials in the pack, B = batch, I, O = inputs and outputs of a layer, C = channels of a trial, H, W = height
and width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.training.fused.layers import Layer, Linear
from hpsearch.training.layout import Stacked
from hpsearch.training.state import PackState


class HandDropout(Layer):
    """`hpsearch.models.Dropout`: one noise for all trials, compared with the rate of each."""

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        if buffers is None:
            return a
        rate_K11 = self._state.nets.buffers[f"{self._name}.rate"].view(-1, 1, 1)
        a_IB = a.T if a.ndim == 2 else a
        noise_IB = torch.rand(a_IB.shape[-1], a_IB.shape[-2], dtype=a.dtype, device=a.device).T
        self._factor_KIB = (noise_IB >= rate_K11) / (1 - rate_K11)
        return a_IB * self._factor_KIB

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        return delta.mul_(self._factor_KIB)


class ChannelDropout(Layer):
    """`hpsearch.models.Dropout` behind convolutions: one noise for all trials, compared with the rate of each."""

    _factor: Tensor

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        if buffers is None:
            return a
        rate_K111 = self._state.nets.buffers[f"{self._name}.rate"][self._trials].view(-1, 1, 1, 1)
        shape = (len(a), 1, a.shape[1] // self._num_trials, *a.shape[2:])
        noise_B1CHW = torch.rand(shape, dtype=torch.promote_types(a.dtype, torch.float32), device=a.device)
        factor_BKCHW = ((noise_B1CHW >= rate_K111) / (1 - rate_K111)).to(a.dtype)
        self._factor = factor_BKCHW.view_as(a).contiguous(memory_format=torch.channels_last)
        return a * self._factor

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        return delta * self._factor


class DroppedLinear(Linear):
    """`hpsearch.models.DropConnect` behind another layer: one noise for all trials, compared with the rate of each."""

    def __init__(self, state: PackState, name: str, *, follows: bool) -> None:
        super().__init__(state, name, bfloat16=False, follows=follows)
        self._factor_KOI = self._dropped_KOI = torch.empty(0)
        self._drops = False

    @property
    @override
    def _used_weight(self) -> Tensor:
        return self._dropped_KOI if self._drops else self.weight

    @override
    def _begin_pass(self, *, training: bool) -> None:
        self._drops = training
        if training:
            weight_KOI = self.weight
            rate_K11 = self._state.nets.buffers[f"{self._name}.rate"].view(-1, 1, 1)
            noise_OI = torch.rand(weight_KOI.shape[1:], dtype=weight_KOI.dtype, device=weight_KOI.device)
            self._factor_KOI = (noise_OI >= rate_K11) / (1 - rate_K11)
            self._dropped_KOI = weight_KOI * self._factor_KOI

    @override
    def weight_gradient(self) -> Tensor:
        return super().weight_gradient().mul_(self._factor_KOI)
