"""The states of the best trials of a stage, kept on disk after its end so that a later stage can go on with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hpsearch.config.metric import Metric
from hpsearch.training.checkpoints import Checkpoint, CheckpointError, Checkpoints
from hpsearch.training.folds import TrainedPack
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.pack_endings import Kept

STATES = "states"  # folder of all of them, beside that of checkpoints

Keep = Callable[[Mapping[int, HeldTrial]], Mapping[int, Kept]]


class TopSnapshots:
    """Keeps the states of the N best trials that went through all epochs.

    A state is on disk before its trial's end is in the database, so no kill comes between them. Several workers share
    one folder: each drops only what is worse than N others that are there whole, which nobody's best is.

    Args:
        states: where they are, of this stage.
        num: N; with 0 nothing is read or written.
        metric: what the values are.
        note: told what could not be written.
    """

    def __init__(self, states: Checkpoints, num: int, metric: Metric, note: Callable[[str], None]) -> None:
        self._states, self._num, self._metric, self._note = states, num, metric, note

    def beside(self, pack: TrainedPack, keep: Keep) -> Keep:
        """The same as `keep`, after the states of trials that complete in this pack are kept."""
        if not self._num:
            return keep

        def both(completed: Mapping[int, HeldTrial]) -> Mapping[int, Kept]:
            self._take(pack, completed)
            return keep(completed)

        return both

    def _take(self, pack: TrainedPack, completed: Mapping[int, HeldTrial]) -> None:
        there = self._states.scores()
        done = {n: trial.value for n, trial in completed.items() if pack.epochs_of(n) >= pack.num_epochs}
        best = self._best({**there, **done})
        for number in (number for number in done if number in best):
            try:
                self._states.save(number, Checkpoint(pack.snapshot(number), list(completed[number].results)))
            except CheckpointError as error:
                self._note(f"the state of trial {number} is not kept: {str(error).splitlines()[0]}")
        there = self._states.scores()  # what others have kept meanwhile, too
        for number in there.keys() - self._best(there):
            self._states.remove(number)

    def _best(self, values: Mapping[int, float]) -> set[int]:
        """The N best of some trials; of equals the lowest number."""
        ordered = sorted(values, key=lambda number: (-self._metric.goodness(values[number]), number))
        return set(ordered[: self._num])
