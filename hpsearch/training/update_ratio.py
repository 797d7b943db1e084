"""How large a step is beside the weights that make it; about 1e-3 is usual.

Shapes: K = trials in the pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from hpsearch.training.slots import Slots
from hpsearch.training.stacked_nets import StackedNets


class UpdateRatio:
    """|update| / |weights before it| of each trial, over all its weights.

    Keeps the memory of its copies: fresh pages for twice the weights took longer than the step that they measure. What
    is left in them is the update itself, so that anybody may look at it layer by layer afterwards, at no cost before.
    """

    def __init__(self) -> None:
        self._copies: list[Tensor] = []

    @property
    def updates(self) -> Sequence[Tensor]:
        """What `end` has found last, like the weights; empty before."""
        return self._copies

    def begin(self, weights: Sequence[Tensor]) -> None:
        """Note the weights before an update, of shape [K, ...] each."""
        if [copy.shape for copy in self._copies] != [weight.shape for weight in weights]:
            self._copies = [torch.empty_like(weight) for weight in weights]
        for copy, weight in zip(self._copies, weights, strict=True):
            copy.copy_(weight)

    def end(self, weights: Sequence[Tensor]) -> Tensor:
        """The ratios after it, of shape [K]."""
        before = _norm(self._copies)
        for copy, weight in zip(self._copies, weights, strict=True):
            torch.sub(weight, copy, out=copy)
        return _norm(self._copies) / before


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """Of all tensors of a trial together."""
    squares = [torch.linalg.vector_norm(tensor.flatten(1), dim=1).square() for tensor in tensors]
    return torch.stack(squares).sum(0).sqrt()


class LastStep:
    """The last step of an epoch, of all trials of a pack, which may move and leave afterwards."""

    def __init__(self) -> None:
        self._ratio = UpdateRatio()
        self._slots: dict[int, int] = {}  # where each trial was in it

    def begin(self, nets: StackedNets) -> None:
        """It comes next."""
        self._ratio.begin(list(nets.weights.values()))

    def end(self, nets: StackedNets, slots: Slots) -> Tensor:
        """|update| / |weights before it| of each slot, of shape [K]."""
        self._slots = {number: slot for slot, number in slots.taken}
        return self._ratio.end(list(nets.weights.values()))

    def forget(self, numbers: Iterable[int]) -> None:
        """Trials begin anew, some perhaps with the numbers of others that were in it."""
        for number in numbers:
            self._slots.pop(number, None)

    def layer_ratios(self, nets: StackedNets, slot: int, number: int) -> dict[str, float]:
        """The same of each layer of a trial, which is in this slot now; empty where it was not in the step."""
        if (before := self._slots.get(number)) is None:
            return {}
        updates = nets.parameters_in(dict(zip(nets.weights, self._ratio.updates, strict=True)))
        own = {name: update[before] for name, update in updates.items()}
        return layer_ratios(own, {name: nets.parameters[name][slot] for name in own})


def layer_ratios(updates: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, float]:
    """|update| / |weights before it| of each weight of one trial, by its name without `.weight`.

    Args:
        updates: that were added, by name.
        weights: as they are after it, by name.
    """
    found = {}
    for name, update in updates.items():
        update = update.double()
        before = weights[name].double() - update
        found[name.removesuffix(".weight")] = float(torch.linalg.vector_norm(update) / torch.linalg.vector_norm(before))
    return found
