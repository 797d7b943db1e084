"""Who comes into a pack and who leaves it, with all that lies by slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpsearch.config.structure import refuse_other_structures
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training.best_epochs import BestEpochs
from hpsearch.training.engine import Engine
from hpsearch.training.initial_state import InitialState
from hpsearch.training.slots import Slots
from hpsearch.training.snapshot import Snapshot, restore
from hpsearch.training.vectors import Vectors


class Membership:
    """Lets trials into the slots of an engine, from their first epoch or from a snapshot on, and out of them.

    Args:
        slots: of trials that begin.
        engine: has these trials in the same slots.
        initial: what all begin with.
        best: the best epochs of each.
        refills: whether others are to take the places of trials that leave, where the engine can.
    """

    def __init__(self, slots: Slots, engine: Engine, initial: InitialState, best: BestEpochs, *, refills: bool) -> None:
        self._slots, self._engine, self._initial, self._best = slots, engine, initial, best
        self.stay = refills and engine.refills
        """Whether slots stay where others may come, also once nobody comes any more."""
        self._open = self.stay

    @property
    def num_vacant(self) -> int:
        """Trials that `admit` can take now."""
        return len(self._slots.vacant) if self._open else 0

    def go_on(self, snapshots: Mapping[int, Snapshot]) -> None:
        """All trials go on from their snapshots.

        Raises:
            EngineError: these are not of all trials and one epoch, or not theirs.
        """
        epochs = {snapshot.epoch for snapshot in snapshots.values()}
        if set(snapshots) != set(self._slots.numbers) or len(epochs) != 1:
            raise EngineError(f"snapshots of trials {sorted(snapshots)} at epochs {sorted(epochs)} are not one pack's.")
        for slot, number in self._slots.taken:
            restore(self._engine.state, slot, number, snapshots[number])
        self._engine.weights_changed()
        for slot, number in self._slots.taken:
            self._take_over(slot, number, snapshots[number])

    def admit(self, specs: Sequence[TrialSpec], snapshots: Mapping[int, Snapshot]) -> None:
        """Let trials take the places of those that left, from their first epoch on, or from a snapshot's.

        Raises:
            EngineError: there is no room for so many, or they do not fit this pack.
        """
        free, config = self._slots.vacant[: len(specs)], self._initial.config
        if len(specs) > self.num_vacant or not {spec.number for spec in specs}.isdisjoint(self._slots.numbers):
            numbers = list(self._slots.numbers)
            raise EngineError(f"trials {[s.number for s in specs]} do not fit into a pack of {numbers}.")
        refuse_other_structures(config, specs)
        vectors = Vectors.of([config.with_params(spec.params) for spec in specs])
        self._initial.refuse_missing_noises(vectors)
        _, other = self._initial.begin(vectors)
        for place, spec in enumerate(specs):
            if (snapshot := snapshots.get(spec.number)) is not None:
                restore(other, place, spec.number, snapshot)
        if self._engine.state.admit_trials(free, other):
            self._engine.operations_changed()
        self._engine.weights_changed()
        for slot, spec in zip(free, specs, strict=True):
            self._slots.put(slot, spec.number)
            if (snapshot := snapshots.get(spec.number)) is not None:
                self._take_over(slot, spec.number, snapshot)

    def leave(self, leaving: set[int]) -> None:
        """Where others may come, the slots stay, which costs what they cost before; else they move together."""
        vacated = self._slots.vacate(leaving)
        if self.stay and (self._open or 2 * len(self._slots.numbers) > len(self._slots.by_slot)):
            self._engine.state.vacate(vacated)
        elif self._slots.vacant:
            self._engine.keep(self._slots.move_together())

    def close(self) -> None:
        """No more trials come."""
        self._open = False
        self.leave(set())

    def _take_over(self, slot: int, number: int, snapshot: Snapshot) -> None:
        """Where a trial stands, and the best that it had."""
        self._slots.epochs[number] = snapshot.epoch
        self._best.go_on(slot, number, snapshot)
