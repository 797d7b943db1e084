"""On CUDA, the update of a block of weights for all trials in one pass through memory, by kernels of Triton.

Stacked operators make three to eight passes. A prototype of one took 0.113 ms for momentum with 100 x 153,600 weights
in float32 on an H100, 2.9 TB/s.

Shapes: K = trials in the pack, P = numbers of one trial in a block, N = programs that share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.logs import get_logger
from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers import IN_ONE_PASS, corrected
from hpsearch.training.updater import StackedOperators, Updated, Updater
from hpsearch.training.vectors import Vectors

BLOCK = 1024  # numbers of a program: two times four in float32 for each of its 128 threads

logger = get_logger(__name__)


class OnePass(Updater):
    """One kernel for each block, which leaves the sums of the new weights' squares behind.

    Nothing waits for the device, and what stays is in place: a step with it can be recorded as a CUDA graph. Kernels
    are compiled here, by an update from which all trials are left out.

    Raises:
        ImportError: there is no Triton.
        ValueError: a block is in another precision than float32 and float64, or has gaps.
        Exception: of Triton, which cannot compile for this device, or not here.
    """

    def __init__(self, updated: Updated) -> None:
        from hpsearch.training import triton_kernels

        for name, block in updated.blocks.items():
            if block.dtype not in (torch.float32, torch.float64) or not block.is_contiguous():
                raise ValueError(f"{name} is in {block.dtype} with strides {block.stride()}.")
        self._kernels: Any = triton_kernels
        self._updated = updated
        like = updated.lr
        self._nobody_K = torch.zeros_like(like, dtype=torch.bool)
        # 1 - beta**t loses half its digits in float32.
        self._beta1_K, self._beta2_K = (torch.empty_like(like, dtype=torch.float64) for _ in range(2))
        self._gain1_K, self._gain2_K, self._momentum_K = (torch.empty_like(like) for _ in range(3))
        self._weight_decay_K = torch.empty_like(like) if updated.rule == "adamw" else None
        self.set_coefficients(updated.vectors)
        self._partial: Stacked = {}  # sums of squares by program, of shape [K, N]
        self._squares: Stacked = {}
        if updated.penalty.reg is not None:
            for name in updated.weights:
                num_programs, num_trials = _grid(updated.blocks[name])
                self._partial[name] = like.new_zeros(num_trials, num_programs)
                self._squares[name] = torch.zeros_like(like)
        self.weights_changed()
        self.update(updated.blocks, ~self._nobody_K)

    takes_bfloat16 = True

    @override
    def update(self, gradients: Stacked, frozen_K: Tensor | None, rounded: Mapping[str, Tensor] | None = None) -> None:
        own = self._updated
        frozen_K = self._nobody_K if frozen_K is None else frozen_K
        frozen = frozen_K.view(torch.uint8)
        launch = self._adam() if own.rule in ("adam", "adamw") else self._sgd
        for name, gradient in gradients.items():
            block, copy = own.blocks[name], (rounded or {}).get(name)
            bits = None if copy is None else copy.view(torch.uint16)
            with _on_device_of(block):
                launch(name, gradient.contiguous(), bits, frozen)

    @override
    def set_coefficients(self, vectors: Vectors) -> None:
        self._momentum_K.copy_(vectors.momentum)
        for beta_K, gain_K, given_K in (
            (self._beta1_K, self._gain1_K, vectors.momentum),
            (self._beta2_K, self._gain2_K, vectors.beta2),
        ):
            beta_K.copy_(given_K)
            gain_K.copy_(1 - given_K)
        if self._weight_decay_K is not None:
            self._weight_decay_K.copy_(vectors.weight_decay)

    @override
    def squares(self) -> Stacked:
        return {name: torch.sum(self._partial[name], 1, out=sum_K) for name, sum_K in self._squares.items()}

    @override
    def weights_changed(self) -> None:
        for name, partial in self._partial.items():
            block = self._updated.blocks[name]
            with _on_device_of(block):
                self._kernels.squares[_grid(block)](block, partial, block[0].numel(), BLOCK=BLOCK)

    def _sgd(self, name: str, gradient: Tensor, bits: Tensor | None, frozen: Tensor) -> None:
        own = self._updated
        block, averages = own.blocks[name], self._averages(name)
        velocity, momentum_K = (*averages, self._momentum_K) if averages else (None, None)
        self._kernels.sgd[_grid(block)](
            block, velocity, gradient, bits, self._partial.get(name), frozen,
            own.optimizer.rates.of(name, own.lr), momentum_K, *self._penalty(name), block[0].numel(),
            NESTEROV=own.rule == "nesterov", BLOCK=BLOCK,
        )  # fmt: skip

    def _adam(self) -> Any:
        """As `_sgd`, with the rates of this update."""
        own = self._updated
        rates = corrected(own.lr, self._beta1_K, self._beta2_K, own.num_updates)
        lr_K, eps_K = (rate_K.to(own.lr) for rate_K in rates)
        decay_K = None if self._weight_decay_K is None else own.lr * self._weight_decay_K

        def launch(name: str, gradient: Tensor, bits: Tensor | None, frozen: Tensor) -> None:
            block, of = own.blocks[name], own.optimizer.rates.of
            own_decay_K = of(name, decay_K) if decay_K is not None and name in own.weights else None
            self._kernels.adam[_grid(block)](
                block, *self._averages(name), gradient, bits, self._partial.get(name), frozen,
                of(name, lr_K), self._gain1_K, self._gain2_K, eps_K, *self._penalty(name),
                own_decay_K, block[0].numel(), BLOCK=BLOCK,
            )  # fmt: skip

        return launch

    def _averages(self, name: str) -> list[Tensor]:
        return [stacked[name] for stacked in self._updated.optimizer.state.values()]

    def _penalty(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        penalty = self._updated.penalty
        return (penalty.reg, penalty.l1) if name in self._updated.weights else (None, None)


def make_updater(updated: Updated) -> Updater:
    """One pass where that is possible: on CUDA, with Triton and all that it needs, by the rules that there are."""
    if updated.lr.device.type != "cuda" or updated.rule not in IN_ONE_PASS:
        return StackedOperators(updated)
    try:
        return OnePass(updated)
    except Exception as error:  # Triton's are of many kinds: no compiler for its launchers, a device too old
        logger.debug("updates take several passes through memory: %s: %s", type(error).__name__, error)
        return StackedOperators(updated)


def _on_device_of(block: Tensor) -> AbstractContextManager[None]:
    """Triton starts kernels on the current device; in its interpreter, on a CPU, there is none."""
    device: AbstractContextManager[None] = torch.cuda.device_of(block)  # type: ignore[no-untyped-call]
    return device


def _grid(block: Tensor) -> tuple[int, int]:
    """[N, K] for a block of shape [K, ...]."""
    return -(-block[0].numel() // BLOCK), len(block)
