"""Large weights on a CPU: each trial's update in one pass through memory.

Shapes: K = trials in the pack, O, I = outputs and inputs of a layer.

Stacked operators make three to eight passes, and know one rate for all tensors where they are fused: so updates go
trial by trial, with kernels that numba compiles, or where it is not installed with those behind `torch.optim`'s
fused=True.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.training.optimizers import ADAM_EPS
from hpsearch.training.state import PackState

LARGE = 2**14  # numbers of one trial; below it, calls cost more than passes
LONG = 1024  # numbers of a row; between such rows of a gradient there may be gaps

Rule = Callable[[int, str, Tensor, Tensor], None]  # (slot, name, weight_OI, gradient_OI)


class LargeUpdate(ABC):
    """`PackState.update` for one weight at a time; make a new one after `PackState.keep`."""

    def __init__(self, state: PackState) -> None:
        self._state = state
        vectors = state.vectors
        self._reg, self._l1, self._momentum, self._beta2, self._weight_decay = (
            vector.tolist()
            for vector in (vectors.reg, vectors.l1, vectors.momentum, vectors.beta2, vectors.weight_decay)
        )
        self._lr: list[float] = []

    def __call__(
        self, name: str, gradient_KOI: Tensor, frozen_K: Tensor | None, rounded_KOI: Tensor | None = None
    ) -> None:
        """Update all trials but the frozen.

        Args:
            gradient_KOI: of the data loss, used up; it may be in bfloat16.
            rounded_KOI: a copy of the weight in bfloat16, which is to follow it.
        """
        num_trials = self._state.num_trials
        frozen = [False] * num_trials if frozen_K is None else frozen_K.tolist()
        self._lr = self._state.lr_K.tolist()
        self._update(name, gradient_KOI, [slot for slot in range(num_trials) if not frozen[slot]], rounded_KOI)

    def squares(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums of the squares of these weights, of shape [K], where the updates leave them behind."""
        return {}

    @abstractmethod
    def _update(self, name: str, gradient_KOI: Tensor, slots: list[int], rounded_KOI: Tensor | None) -> None:
        """Of these trials."""


def large_update(state: PackState) -> LargeUpdate:
    """The faster one of those that are there. Imports numba, which takes 0.2 s."""
    try:
        from hpsearch.training.fused import kernels as compiled_update
    except ImportError:
        return TorchUpdate(state)
    return CompiledUpdate(state, compiled_update)


def compile_kernels(optimizer: str) -> None:
    """Do now what the first step of this optimizer would take seconds for, the first time on a machine."""
    try:
        from hpsearch.training.fused import kernels as compiled_update
    except ImportError:
        return
    weight, zero = np.zeros((1, 1), np.float32), np.float32(0)
    bits = np.zeros((1, 1), np.uint16)
    for gradient, rounded in ((weight.copy(), None), (bits, bits.copy())):
        if optimizer in ("adam", "adamw"):
            compiled_update.adam(
                weight, weight.copy(), weight.copy(), gradient, rounded, *[zero] * 3, zero + 1, *[zero] * 3
            )
        else:
            velocity = None if optimizer == "sgd" else weight.copy()
            compiled_update.sgd(weight, velocity, gradient, rounded, *[zero] * 4, optimizer == "nesterov")
    compiled_update.squares(weight)


class CompiledUpdate(LargeUpdate):
    """One pass over weight, averages and gradient, which leaves the rounded weight and its squares' sum behind."""

    def __init__(self, state: PackState, kernels: Any) -> None:
        super().__init__(state)
        self._kernels = kernels
        self._rule = self._adam if state.train.optimizer in ("adam", "adamw") else self._sgd
        self._squares: dict[str, tuple[int, Tensor]] = {}

    def squares(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See LargeUpdate."""
        return {name: self._squares_of(name, weight_KOI) for name, weight_KOI in weights.items()}

    def _squares_of(self, name: str, weight_KOI: Tensor) -> Tensor:
        version, found_K = self._squares.get(name, (-1, weight_KOI))
        # PyTorch counts its own changes of a tensor, and not those of the kernels.
        if version == weight_KOI._version:
            return found_K
        return self._as_vector([self._kernels.squares(weight) for weight in _tables(weight_KOI)])

    def _update(self, name: str, gradient_KOI: Tensor, slots: list[int], rounded_KOI: Tensor | None) -> None:
        weight_KOI = self._state.parameters[name]
        if rounded_KOI is None:
            gradient_KOI = gradient_KOI.to(weight_KOI.dtype)
        if not _in_long_rows(gradient_KOI):
            gradient_KOI = gradient_KOI.contiguous()
        averages = [_tables(stacked[name]) for stacked in self._state.optimizer.state.values()]
        weight, gradient = _tables(weight_KOI), _tables(gradient_KOI)
        rounded = [None] * len(weight) if rounded_KOI is None else _tables(rounded_KOI)
        frozen = len(slots) < len(weight)
        squares: list[float] = self._squares_of(name, weight_KOI).tolist() if frozen else [0.0] * len(weight)
        for slot in slots:
            own = [average[slot] for average in averages]
            squares[slot] = self._rule(slot, weight[slot], own, gradient[slot], rounded[slot])
        self._squares[name] = (weight_KOI._version, self._as_vector(squares))

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


class TorchUpdate(LargeUpdate):
    """PyTorch's fused kernels, called trial by trial."""

    def __init__(self, state: PackState) -> None:
        super().__init__(state)
        self._rule: Rule = {"adam": self._adam, "adamw": self._adam}.get(state.train.optimizer, self._sgd)
        self._step_K = torch.zeros(state.num_trials)  # float32, as torch.optim counts

    def _update(self, name: str, gradient_KOI: Tensor, slots: list[int], rounded_KOI: Tensor | None) -> None:
        weight_KOI = self._state.parameters[name]
        self._step_K.copy_(self._state.watch.num_updates_K)
        own_OI = None if gradient_KOI.dtype == weight_KOI.dtype else torch.empty_like(weight_KOI[0])
        for slot in slots:
            weight_OI, gradient_OI = weight_KOI[slot], gradient_KOI[slot]
            if own_OI is not None:
                gradient_OI = own_OI.copy_(gradient_OI)
            if self._l1[slot]:
                gradient_OI.add_(weight_OI.sign(), alpha=self._l1[slot])
            self._rule(slot, name, weight_OI, gradient_OI)
        if rounded_KOI is not None:
            rounded_KOI.copy_(weight_KOI)

    def _sgd(self, slot: int, name: str, weight_OI: Tensor, gradient_OI: Tensor) -> None:
        averages = [stacked[name][slot] for stacked in self._state.optimizer.state.values()]
        if averages and not self._momentum[slot]:  # the kernel takes no average that it would not use
            velocity_OI = torch.add(gradient_OI, weight_OI, alpha=self._reg[slot], out=averages[0])
            weight_OI.add_(velocity_OI, alpha=-self._lr[slot])
            return
        torch._fused_sgd_(
            [weight_OI], [gradient_OI], averages,
            weight_decay=self._reg[slot], momentum=self._momentum[slot] if averages else 0.0, lr=self._lr[slot],
            dampening=0.0, nesterov=self._state.train.optimizer == "nesterov", maximize=False, is_first_step=False,
        )  # fmt: skip

    def _adam(self, slot: int, name: str, weight_OI: Tensor, gradient_OI: Tensor) -> None:
        decoupled = self._state.train.optimizer == "adamw"
        if decoupled and self._reg[slot]:
            gradient_OI.add_(weight_OI, alpha=self._reg[slot])
        average, square = (self._state.optimizer.state[key][name][slot] for key in ("exp_avg", "exp_avg_sq"))
        kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        kernel(
            [weight_OI], [gradient_OI], [average], [square], [], [self._step_K[slot]],
            lr=self._lr[slot], beta1=self._momentum[slot], beta2=self._beta2[slot],
            weight_decay=self._weight_decay[slot] if decoupled else self._reg[slot],
            eps=ADAM_EPS, amsgrad=False, maximize=False,
        )  # fmt: skip
