"""The loop engine: K trials one after the other. Takes any module and serves as the reference for the others.

Shapes: K = trials in the pack, B = batch, C = channels (of the logits: classes), H, W = image height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from hpsearch.training.cost import data_loss
from hpsearch.training.engine import StackedEngine
from hpsearch.training.layout import Stacked
from hpsearch.training.noise import seed_noise
from hpsearch.training.precision import autocast
from hpsearch.training.state import PackState


class LoopEngine(StackedEngine):
    """Ordinary autograd on each slot's slices."""

    name = "loop"

    def __init__(self, module: nn.Module, state: PackState, *, channels_last: bool = True) -> None:
        # 15-19% faster convolutions on a CPU (LeNet and a small convnet, one thread, torch 2.15); a flattening
        # first layer would have to copy it back. Filters in that order are enough to give outputs in it.
        convolves = channels_last and any(isinstance(layer, nn.Conv2d) for layer in module.modules())
        super().__init__(module, state, "joined, channels last" if convolves else "joined")
        self._memory_format = torch.channels_last if convolves else torch.contiguous_format
        self._gradient_blocks: Stacked = {}
        self._rooms: list[list[Tensor]] = []

    @override
    def gradients(self, x_BCHW: Tensor, y_B: Tensor, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        state = self.state
        x_BCHW = x_BCHW.contiguous(memory_format=self._memory_format)
        loss_K = torch.empty_like(state.cost_sum_K)
        buffer_blocks = {name: block.clone() for name, block in state.buffer_blocks.items()}
        buffers = state.buffers_in(buffer_blocks)
        for slot in range(state.num_trials):
            parameters = {name: tensor[slot].detach().requires_grad_() for name, tensor in state.parameters.items()}
            own_buffers = {name: tensor[slot] for name, tensor in buffers.items()}  # views: written in place
            seed_noise(x_BCHW.device, noise_seed)  # each time, so that all trials see the same noise
            with autocast(state.train.precision, x_BCHW.device):
                logits_BC = functional_call(self.module, (parameters, own_buffers), (x_BCHW,)).to(x_BCHW.dtype)
            smoothing_K = None if state.smoothing_K is None else state.smoothing_K[slot : slot + 1]
            loss = data_loss(logits_BC.unsqueeze(0), y_B, smoothing_K).squeeze(0)
            found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
            loss_K[slot] = loss.detach()
            torch._foreach_copy_(self._gradients_of(slot), found)
        return loss_K, self._gradient_blocks, buffer_blocks

    def _gradients_of(self, slot: int) -> list[Tensor]:
        """Room for one trial's gradients, in the order of the parameters; the same in every step."""
        if not self._rooms:
            blocks = self.state.parameter_blocks
            self._gradient_blocks = {name: torch.empty_like(block) for name, block in blocks.items()}
            by_name = self.state.parameters_in(self._gradient_blocks).values()
            self._rooms = [list(each) for each in zip(*(tensor.unbind() for tensor in by_name), strict=True)]
        return self._rooms[slot]

    @override
    def keep(self, slots: Sequence[int]) -> None:
        super().keep(slots)
        self._rooms = []

    @torch.no_grad()
    @override
    def logits(self, x_BCHW: Tensor) -> Tensor:
        self.module.eval()
        x_BCHW = x_BCHW.contiguous(memory_format=self._memory_format)
        slots = [self.state.slot(slot) for slot in range(self.state.num_trials)]
        with autocast(self.state.train.precision, x_BCHW.device):
            return torch.stack([functional_call(self.module, slot, (x_BCHW,)).to(x_BCHW.dtype) for slot in slots])

    @override
    def num_concurrent(self) -> int:
        return 1
