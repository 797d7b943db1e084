"""Explosions: a trial freezes at the very step at which its cost says that it is lost (CS231n's rule).

Nothing here reads a value back from the device during a step; a pack looks at the outcome at its checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from hpsearch.results import Explosion

CHECK_STEPS = 50  # steps between two looks at which trials exploded; each look waits for the device


class ExplosionWatch:
    """Follows the cost of K trials. All tensors are of shape [K] and change in place.

    Args:
        factor: a cost above this many times the first cost is an explosion.
        least_first_cost: what a first cost counts as at least: ln C, or that of another loss for knowing nothing.
            Without it a lucky first minibatch would make a healthy trial explode.
    """

    def __init__(self, num_trials: int, factor: float, least_first_cost: float, like: Tensor) -> None:
        self._factor = factor
        self._least_first_cost = least_first_cost
        self.fresh_K: Tensor | None = torch.ones(num_trials, dtype=torch.bool, device=like.device)
        """Trials whose first cost is not known yet; None: there are none."""
        self.active_K = torch.ones(num_trials, dtype=torch.bool, device=like.device)
        self.num_updates_K = torch.zeros(num_trials, dtype=torch.int64, device=like.device)
        self.cost_K = torch.zeros(num_trials, dtype=like.dtype, device=like.device)  # of the last active step
        self.first_cost_K = torch.zeros_like(self.cost_K)
        self.limit_K = torch.zeros_like(self.cost_K)

    def observe(self, cost_K: Tensor) -> Tensor:
        """Take in the costs before an update; returns who may make it: `active_K`, a mask."""
        if self.fresh_K is not None:
            limit_K = self._factor * cost_K.clamp(min=self._least_first_cost)
            limit_K.clamp_(max=torch.finfo(cost_K.dtype).max)  # so that an infinite cost is above any limit
            for own_K, first_K in ((self.first_cost_K, cost_K), (self.limit_K, limit_K)):
                own_K.copy_(torch.where(self.fresh_K, first_K, own_K))
            self.fresh_K = None
        self.cost_K.copy_(torch.where(self.active_K, cost_K, self.cost_K))
        self.active_K &= cost_K <= self.limit_K  # false for nan, too
        self.num_updates_K += self.active_K  # of a frozen trial it stays: the step of the explosion
        return self.active_K

    def skip(self, skipped_K: Tensor) -> None:
        """These active trials do not make the update that `observe` counted."""
        self.num_updates_K -= skipped_K.to(self.num_updates_K.dtype)

    def explosions(self, taken: Iterable[tuple[int, int]], epochs: Mapping[int, int]) -> list[Explosion]:
        """What became of trials that are lost, by slot and number; `epochs` are those that each has done before."""
        kept = self.num_updates_K, self.cost_K, self.first_cost_K, self.active_K
        rows = list(zip(*(column.tolist() for column in kept), strict=True))
        found = []
        for slot, number in taken:
            step, cost, first_cost, active = rows[slot]
            # One that has not frozen was lost by its last update: the next step would see a cost that is no number.
            found.append(Explosion(number, epochs[number] + 1, step, math.nan if active else cost, first_cost))
        return found

    def everything(self) -> dict[str, Tensor]:
        """What it has seen so far, by name."""
        return {
            "num_updates": self.num_updates_K,
            "cost": self.cost_K,
            "first_cost": self.first_cost_K,
            "limit": self.limit_K,
        }

    def go_on(self, slots: Sequence[int]) -> None:
        """The first costs of these are known already, as they were begun elsewhere."""
        if self.fresh_K is not None:
            self.fresh_K[list(slots)] = False
            if not bool(self.fresh_K.any()):
                self.fresh_K = None

    def vacate(self, slots: Sequence[int]) -> None:
        """Nothing of these trials changes any more."""
        self.active_K[list(slots)] = False

    def admit(self, slots: Sequence[int], other: ExplosionWatch) -> None:
        """Other trials take these slots, with what they have seen so far."""
        for name, own in self.everything().items():
            own[list(slots)] = other.everything()[name]
        self.active_K[list(slots)] = True
        if other.fresh_K is not None:
            fresh_K = torch.zeros_like(self.active_K) if self.fresh_K is None else self.fresh_K
            fresh_K[list(slots)] = other.fresh_K
            self.fresh_K = fresh_K

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        for name in ("active_K", "num_updates_K", "cost_K", "first_cost_K", "limit_K"):
            setattr(self, name, getattr(self, name)[list(slots)])
        if self.fresh_K is not None:
            self.fresh_K = self.fresh_K[list(slots)]
