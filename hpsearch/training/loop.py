"""The loop engine: K trials one after the other. Takes any module and serves as the reference for the others.

Shapes: K = trials in the pack, B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from hpsearch.datasets.mixing import Labels
from hpsearch.training.engine import StackedEngine
from hpsearch.training.layout import Stacked
from hpsearch.training.noise import seed_noise
from hpsearch.training.precision import autocast
from hpsearch.training.state import PackState


class Room(NamedTuple):
    """Where the gradients and buffers of one trial go: views of the blocks of all."""

    gradients: list[Tensor]
    buffers: Stacked


class LoopEngine(StackedEngine):
    """Ordinary autograd on each slot's slices."""

    name = "loop"

    def __init__(self, module: nn.Module, state: PackState, *, channels_last: bool = True) -> None:
        # 15-19% faster convolutions on a CPU (LeNet and a small convnet, one thread, torch 2.15); a flattening
        # first layer would have to copy it back. Filters in that order are enough to give outputs in it.
        convolves = channels_last and any(isinstance(layer, nn.Conv2d) for layer in module.modules())
        super().__init__(module, state, "joined, channels last" if convolves else "joined")
        self._memory_format = torch.channels_last if convolves else torch.contiguous_format
        self._find_room()

    @override
    def gradients(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        x_BCHW = x_BCHW.contiguous(memory_format=self._memory_format)
        for slot in range(self.state.num_trials):
            seed_noise(x_BCHW.device, noise_seed)  # each time, so that all trials see the same noise
            self._go_through(slot, x_BCHW, y_B)
        return self._loss_K, self._gradients, self._buffers

    def _go_through(self, slot: int, x_BCHW: Tensor, y_B: Labels) -> None:
        """One trial's loss, gradients and buffers, into the room for them."""
        state, room = self.state, self._rooms[slot]
        own_step = state.coefficients.own_step
        parameters = {name: tensor[slot].detach().requires_grad_() for name, tensor in state.nets.parameters.items()}
        for name, block in self._buffers.items():
            block[slot].copy_(state.nets.buffer_blocks[name][slot])
        with autocast(state.train.precision, x_BCHW.device):
            if own_step is not None:
                numbers_M = own_step.numbers_KM[slot]
                loss = own_step.loss(self.module, parameters, room.buffers, x_BCHW, y_B, numbers_M)
            else:
                logits_BC = functional_call(self.module, (parameters, room.buffers), (x_BCHW,)).to(x_BCHW.dtype)
        if own_step is None:
            loss = state.coefficients.loss.of_slot(slot)(logits_BC.unsqueeze(0), y_B).squeeze(0)
        scaled = loss if state.scaling is None else loss * state.scaling.scale_K[slot]
        found = torch.autograd.grad(scaled, list(parameters.values()), materialize_grads=True)
        self._loss_K[slot].copy_(loss.detach())
        torch._foreach_copy_(room.gradients, found)

    @override
    def keep(self, slots: Sequence[int]) -> None:
        super().keep(slots)
        self._find_room()

    def _find_room(self) -> None:
        """For what a step finds, the same in every step: fresh memory would cost more than what is written into it."""
        state = self.state
        self._loss_K = torch.empty_like(state.cost_sum_K)
        self._gradients = {name: torch.empty_like(block) for name, block in state.nets.parameter_blocks.items()}
        self._buffers = {name: torch.empty_like(block) for name, block in state.nets.buffer_blocks.items()}
        gradients, buffers = state.nets.parameters_in(self._gradients), state.nets.buffers_in(self._buffers)
        self._rooms = [
            Room([t[slot] for t in gradients.values()], {name: t[slot] for name, t in buffers.items()})
            for slot in range(state.num_trials)
        ]

    @torch.no_grad()
    @override
    def logits(self, x_BCHW: Tensor) -> Tensor:
        self.module.eval()
        x_BCHW = x_BCHW.contiguous(memory_format=self._memory_format)
        slots = [self.state.nets.slot(slot) for slot in range(self.state.num_trials)]
        with autocast(self.state.train.precision, x_BCHW.device):
            return torch.stack([functional_call(self.module, slot, (x_BCHW,)).to(x_BCHW.dtype) for slot in slots])

    @override
    def num_concurrent(self) -> int:
        return 1
