"""Large weights on a CPU: each trial's update in one pass through memory, by kernels that numba compiles.

Shapes: K = trials in the pack, O, I = outputs and inputs of a layer.

Stacked operators make three to eight passes, and know one rate for all tensors where they are fused: so updates go
trial by trial. One pass took 2.8 to 3.3 ms where torch.compile's took 4.3 to 5.6, after 20 s of compiling (25 weights
of 50 x 3072 on one core).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.training.optimizers import ADAM_EPS, IN_ONE_PASS
from hpsearch.training.state import PackState

LARGE = 2**14  # numbers of one trial; below it, calls cost more than passes
LONG = 1024  # numbers of a row; between such rows of a gradient there may be gaps


def compile_kernels(optimizer: str) -> None:
    """Do now what the first step of this optimizer would take seconds for, the first time on a machine."""
    if optimizer not in IN_ONE_PASS:
        return
    from hpsearch.training.fused import kernels

    weight, zero = np.zeros((1, 1), np.float32), np.float32(0)
    bits = np.zeros((1, 1), np.uint16)
    for gradient, rounded in ((weight.copy(), None), (bits, bits.copy())):
        if optimizer in ("adam", "adamw"):
            kernels.adam(weight, weight.copy(), weight.copy(), gradient, rounded, *[zero] * 3, zero + 1, *[zero] * 3)
        else:
            velocity = None if optimizer == "sgd" else weight.copy()
            kernels.sgd(weight, velocity, gradient, rounded, *[zero] * 4, optimizer == "nesterov")
    kernels.squares(weight)


class LargeUpdate:
    """`PackState.update` for one weight at a time, which leaves the rounded weight and its squares' sum behind.

    Make a new one after `PackState.keep`, and where anything else has changed the weights. Imports numba, which takes
    0.2 s.
    """

    def __init__(self, state: PackState) -> None:
        from hpsearch.training.fused import kernels

        self._kernels: Any = kernels
        self._state = state
        vectors = state.vectors
        self._reg, self._l1, self._momentum, self._beta2, self._weight_decay = (
            vector.tolist()
            for vector in (vectors.reg, vectors.l1, vectors.momentum, vectors.beta2, vectors.weight_decay)
        )
        self._lr: list[float] = []
        self._rule = self._adam if state.train.optimizer in ("adam", "adamw") else self._sgd
        self._squares: dict[str, Tensor] = {}

    def __call__(
        self, name: str, gradient_KOI: Tensor, frozen_K: Tensor | None, rounded_KOI: Tensor | None = None
    ) -> None:
        """Update all trials but the frozen.

        Args:
            name: of the weight.
            gradient_KOI: of the data loss, used up; in bfloat16 where `rounded_KOI` is given.
            frozen_K: mask of the trials to leave alone; None: there are none.
            rounded_KOI: a copy of the weight in bfloat16, which is to follow it.
        """
        frozen = [False] * self._state.num_trials if frozen_K is None else frozen_K.tolist()
        self._lr = self._state.optimizer.rates.of(name, self._state.lr_K).tolist()
        weight_KOI = self._state.nets.parameters[name]
        if rounded_KOI is None:
            gradient_KOI = gradient_KOI.to(weight_KOI.dtype)
        if not _in_long_rows(gradient_KOI):
            gradient_KOI = gradient_KOI.contiguous()
        averages = [_tables(stacked[name]) for stacked in self._state.optimizer.state.values()]
        weight, gradient = _tables(weight_KOI), _tables(gradient_KOI)
        rounded = [None] * len(weight) if rounded_KOI is None else _tables(rounded_KOI)
        squares: list[float] = self._squares_of(name).tolist() if any(frozen) else [0.0] * len(weight)
        for slot in range(len(weight)):
            if not frozen[slot]:
                own = [average[slot] for average in averages]
                squares[slot] = self._rule(slot, weight[slot], own, gradient[slot], rounded[slot])
        self._squares[name] = self._as_vector(squares)

    def squares(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Sums of the squares of these weights, of shape [K]."""
        return {name: self._squares_of(name) for name in names}

    def _squares_of(self, name: str) -> Tensor:
        if name not in self._squares:
            tables = _tables(self._state.nets.parameters[name])
            self._squares[name] = self._as_vector([self._kernels.squares(weight) for weight in tables])
        return self._squares[name]

    def _as_vector(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=self._state.cost_sum_K.dtype)

    def _sgd(self, slot: int, weight: Any, averages: list[Any], gradient: Any, rounded: Any) -> float:
        (velocity,) = averages or [None]
        rates = map(weight.dtype.type, (self._lr[slot], self._momentum[slot], self._reg[slot], self._l1[slot]))
        nesterov = self._state.train.optimizer == "nesterov"
        return float(self._kernels.sgd(weight, velocity, gradient, rounded, *rates, nesterov))

    def _adam(self, slot: int, weight: Any, averages: list[Any], gradient: Any, rounded: Any) -> float:
        beta1, beta2 = self._momentum[slot], self._beta2[slot]
        num_updates = int(self._state.watch.num_updates_K[slot])
        decay = self._weight_decay[slot] if self._state.train.optimizer == "adamw" else 0.0
        root2 = math.sqrt(1 - beta2**num_updates)  # as in `optimizers.Adam`
        rates = (
            self._lr[slot] * root2 / (1 - beta1**num_updates), 1 - beta1, 1 - beta2, ADAM_EPS * root2,
            self._reg[slot], self._l1[slot], self._lr[slot] * decay,
        )  # fmt: skip
        numbers = map(weight.dtype.type, rates)
        return float(self._kernels.adam(weight, *averages, gradient, rounded, *numbers))


def _in_long_rows(stacked: Tensor) -> bool:
    """Whether it is contiguous, or would be without the gaps behind its rows."""
    if stacked.ndim != 3 or not LONG <= stacked.shape[2] <= stacked.stride(1):
        return False
    return stacked.stride() == (stacked.shape[1] * stacked.stride(1), stacked.stride(1), 1)


def _tables(stacked: Tensor) -> Any:
    """As an array of K tables in the same memory, with the gaps behind long rows; bfloat16 as its bits."""
    bits = stacked.view(torch.uint16) if stacked.dtype == torch.bfloat16 else stacked
    num_trials, num_rows, *_ = bits.shape
    if not _in_long_rows(bits):
        return bits.view(num_trials, num_rows if bits[0, 0].numel() >= LONG else 1, -1).numpy()
    # The kernels are faster where they know that memory is contiguous.
    length = bits.stride(1)
    return bits.as_strided((num_trials, num_rows, length), (num_rows * length, length, 1)).numpy()
