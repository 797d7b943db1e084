"""Large weights on a CPU: each trial's update in one pass through memory.

Shapes: K = trials in the pack, O, I = outputs and inputs of a layer.

The kernels behind `torch.optim`'s fused=True do regularization, averages and weights in one pass, where stacked
operators take three to eight, but know one rate for all tensors: so they are called trial by trial.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hpsearch.training.optimizers import ADAM_EPS
from hpsearch.training.state import PackState

LARGE = 2**14  # numbers of one trial; below it, calls cost more than passes

Rule = Callable[[int, str, Tensor, Tensor], None]  # (slot, name, weight_OI, gradient_OI)


class LargeUpdate:
    """`PackState.update` for one weight at a time; make a new one after `PackState.keep`."""

    def __init__(self, state: PackState) -> None:
        self._state = state
        self._rule: Rule = {"adam": self._adam, "adamw": self._adam}.get(state.train.optimizer, self._sgd)
        vectors = state.vectors
        self._reg, self._l1, self._momentum, self._beta2, self._weight_decay = (
            vector.tolist()
            for vector in (vectors.reg, vectors.l1, vectors.momentum, vectors.beta2, vectors.weight_decay)
        )
        self._step_K = torch.zeros(state.num_trials)  # float32, as torch.optim counts
        self._lr: list[float] = []

    def __call__(self, name: str, gradient_KOI: Tensor, frozen_K: Tensor | None) -> None:
        """Update all trials but the frozen. The gradient is the data loss's and used up; it may be in bfloat16."""
        state = self._state
        weight_KOI = state.parameters[name]
        frozen = [False] * state.num_trials if frozen_K is None else frozen_K.tolist()
        self._lr = state.lr_K.tolist()
        self._step_K.copy_(state.watch.num_updates_K)
        own_OI = None if gradient_KOI.dtype == weight_KOI.dtype else torch.empty_like(weight_KOI[0])
        for slot, (weight_OI, gradient_OI) in enumerate(zip(weight_KOI.unbind(), gradient_KOI.unbind(), strict=True)):
            if frozen[slot]:
                continue
            if own_OI is not None:
                gradient_OI = own_OI.copy_(gradient_OI)
            if self._l1[slot]:
                gradient_OI.add_(weight_OI.sign(), alpha=self._l1[slot])
            self._rule(slot, name, weight_OI, gradient_OI)

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
