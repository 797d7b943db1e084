"""The other end of `top_snapshots`: a trial begins with the state of one of an earlier stage."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpsearch.analysis.origins import origin_of
from hpsearch.results import Direction
from hpsearch.storage import Lease
from hpsearch.training.checkpoints import Checkpoint, Checkpoints

OUR_FOLDER = re.compile(r"[\w-]+")  # a database may name others, which are not read


class Continuing:
    """Reads kept states.

    Args:
        root: of the states of all stages.
        note: told where a state cannot be read; the trial is trained from its first epoch then, which gives the same.
        needs_best: whether the weights of best epochs are kept.
        direction: of the metric.
    """

    def __init__(self, root: Path, note: Callable[[str], None], *, needs_best: bool, direction: Direction) -> None:
        self._root, self._note, self._needs_best, self._direction = root, note, needs_best, direction

    def begin(self, lease: Lease, num_epochs: int) -> Checkpoint | None:
        """The state with which a trial begins, as one of its own; None where it begins by itself.

        Args:
            lease: of the trial.
            num_epochs: to which it is trained; a state that is no earlier is of no use.
        """
        origin = origin_of(lease.attrs)
        if origin is None or origin.epoch >= num_epochs or not OUR_FOLDER.fullmatch(origin.states):
            return None
        states = Checkpoints(self._root, origin.states, needs_best=self._needs_best, direction=self._direction)
        found = states.load(origin.trial)
        if found is None or found.snapshot.epoch != origin.epoch:
            self._note(
                f"the state of {origin.study} trial {origin.trial} is not in {states.folder}: "
                f"trial {lease.number} is trained from its first epoch, which gives the same"
            )
            return None
        best = found.snapshot.best
        own = replace(best, number=lease.number) if best is not None else None
        results = [replace(result, number=lease.number) for result in found.results]
        return Checkpoint(replace(found.snapshot, best=own), results)
