"""What trains a pack: the interface of all engines, and the base of those that differ in the gradients alone.

Shapes: K = trials in the pack, B = batch, N = images, C = classes or channels, H, W = image height and width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.mixing import Labels
from hpsearch.datasets.stored import StoredImages, chunks
from hpsearch.training.data_loss import measured_loss
from hpsearch.training.layout import Kind, Stacked
from hpsearch.training.state import PackState

# Most numbers in one layer's output during evaluation.
CPU_CHUNK = 2**24  # 64 MiB in float32; more is not faster
GPU_CHUNK = 2**27  # 512 MiB in float32; enough to fill it


class Engine(ABC):
    """Trains the K trials of a `PackState` in lockstep, in place.

    The contract, whatever the way: a trial's numbers are those of an ordinary training loop and depend neither on
    its neighbours nor on K; a trial that explodes is left as it was before that step (`ExplosionWatch` decides,
    from the cost before the update); no step waits for the device.
    """

    name: ClassVar[str]
    refills: ClassVar[bool] = False
    """Whether slots may be at different epochs, each with batches of its own, so that others take free ones."""

    def __init__(self, module: nn.Module, state: PackState, layout: Kind = "single") -> None:
        self.module = module  # gives the structure; its own numbers are not used
        self.state = state
        state.lay_out(layout)

    @abstractmethod
    def step(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> None:
        """One update of all trials on one minibatch; the forward pass draws its noise from `noise_seed`."""

    def run(self, epochs: Sequence[Epoch], steps: range) -> None:
        """These steps of an epoch, which each slot is told; most engines train all slots on the same batches."""
        epoch, dtype = epochs[0], self.state.cost_sum_K.dtype
        for step in steps:
            self._take_place(step, epoch.num_batches)
            x_BCHW, y_B = epoch.batch(step)
            self.step(x_BCHW.to(dtype), y_B, epoch.noise_seed(step))

    @abstractmethod
    def logits(self, x_BCHW: Tensor) -> Tensor:
        """logits_KBC in evaluation mode, without a graph."""

    @abstractmethod
    def num_concurrent(self) -> int:
        """Trials whose layer outputs are in memory at the same time."""

    @torch.no_grad()
    def evaluate(
        self, x_NCHW: Tensor | StoredImages, y_N: Tensor, watch: Callable[[Tensor, Tensor], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean of train.loss and number of correct images of each trial, shape [K]; memory is bounded.

        `watch` is called with logits_KBC and y_B of each chunk.
        """
        loss_K = torch.zeros_like(self.state.cost_sum_K)
        correct_K = torch.zeros_like(loss_K)
        size = self._images_per_chunk(x_NCHW)
        for x_BCHW, y_B in zip(chunks(x_NCHW, size), torch.split(y_N, size), strict=True):
            logits_KBC = self.logits(x_BCHW.to(loss_K.dtype))
            loss_K += measured_loss(self.state.train.loss, logits_KBC, y_B) * len(y_B)
            correct_K += (logits_KBC.argmax(-1) == y_B).sum(-1)
            if watch is not None:
                watch(logits_KBC, y_B)
        return loss_K / len(y_N), correct_K

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials; the kept ones move together in this order."""
        self.state.keep(slots)

    def weights_changed(self) -> None:
        """Something else has written to the state; what was derived from its weights is no longer true."""
        self.state.weights_changed()

    def operations_changed(self) -> None:  # noqa: B027 - most engines look at each step
        """A step does something else from now on, as trials with regularization have come to those without."""

    def _take_place(self, step: int, num_batches: int) -> None:
        """Say which minibatch of its update comes next."""
        if (accumulation := self.state.accumulation) is not None:
            accumulation.place = accumulation.place_of(step, num_batches)

    def _images_per_chunk(self, x_NCHW: Tensor | StoredImages) -> int:
        if not hasattr(self, "_widest_layer"):
            self._widest_layer = widest_layer(self.module, tuple(x_NCHW.shape[1:]))
        most_numbers = CPU_CHUNK if x_NCHW.device.type == "cpu" else GPU_CHUNK
        return max(1, most_numbers // (self._widest_layer * self.num_concurrent()))


class StackedEngine(Engine):
    """An engine that computes losses and gradients only; the rest of the step is `PackState.advance`."""

    @override
    def step(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> None:
        self.module.train()
        found = self.gradients(x_BCHW, y_B, noise_seed)
        self.state.weigh(y_B)
        self.state.advance(*found)

    @abstractmethod
    def gradients(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        """(loss_K, gradients, buffers) of the data loss in training mode, as `PackState.advance` takes them.

        Changes nothing: the buffers are copies, as the forward pass left them. All are valid until the next call.
        """


def _num_numbers(output: object) -> int:
    """Of a layer's output: a tensor, or several, as of a recurrent layer."""
    if isinstance(output, tuple | list):
        return sum(map(_num_numbers, output))
    return output.numel() if isinstance(output, Tensor) else 0


def widest_layer(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Numbers that the widest layer, or the input, has for one image of this shape (C, H, W)."""
    sizes = [math.prod(shape)]
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(_num_numbers(output)))
        for layer in module.modules()
    ]
    try:
        module.eval()
        like = next(module.parameters())
        with torch.no_grad():
            module(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)
