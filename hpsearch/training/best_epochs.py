"""The best epoch of each trial of a pack so far, and its weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hpsearch.errors import EngineError
from hpsearch.results import Direction, EpochResult, best_epoch
from hpsearch.training.slots import Slots
from hpsearch.training.snapshot import Snapshot
from hpsearch.training.stacked_nets import StackedNets


class BestEpochs:
    """By number of the trial.

    Args:
        nets: of the trials, by slot; keep the weights, too.
        direction: of the metric.
        num_epochs: of each trial: after the last one, its weights are there anyway.
        keeps_weights: whether anybody will ask for them.
    """

    def __init__(self, nets: StackedNets, direction: Direction, num_epochs: int, *, keeps_weights: bool) -> None:
        self._nets, self._direction, self._num_epochs = nets, direction, num_epochs
        self.keeps_weights = keeps_weights
        self._results: dict[int, EpochResult] = {}

    def of(self, number: int) -> EpochResult | None:
        """The best epoch of a trial; None before its first one has ended."""
        return self._results.get(number)

    def look_at(self, results: Sequence[EpochResult], slots: Slots) -> None:
        """Keep the weights of the trials that have just had their best epoch, as these results of it say."""
        better = {r.number: r for r in results if best_epoch([self._results.get(r.number, r), r], self._direction) is r}
        self._results |= better
        kept = [slots.slot(number) for number, result in better.items() if result.epoch < self._num_epochs]
        if kept and self.keeps_weights:
            self._nets.keep_best(kept)

    def go_on(self, slot: int, number: int, snapshot: Snapshot) -> None:
        """Take over the best that a trial had until then.

        Raises:
            EngineError: its weights are asked for, and not in the snapshot.
        """
        if snapshot.best is not None:
            self._results[number] = snapshot.best
        if not self.keeps_weights:
            return
        if not snapshot.has_best:
            raise EngineError(f"the snapshot of trial {number} is without the weights of its best epoch.")
        self._nets.keep_best([slot])
        for name, tensor in snapshot.best_weights.items():
            self._nets.best[name][slot].copy_(tensor)

    def slot(self, slot: int, number: int) -> dict[str, Tensor]:
        """A trial's parameters and buffers of its best epoch; before the first one has ended, as they are."""
        best = self.of(number)
        apart = best is not None and best.epoch < self._num_epochs
        return self._nets.best_slot(slot) if apart else self._nets.slot(slot)
