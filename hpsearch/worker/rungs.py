"""Where a worker's trials ask whether they may go on, and where it takes those that may: the database decides.

Before each question, all that this worker has to say is written: what it has recorded, ended or paused counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from hpsearch.analysis import attributes
from hpsearch.analysis.trial_records import TrialRecord
from hpsearch.stages.halving import Halving, best_paused, best_stopped
from hpsearch.storage import Closing, GoingOn, Lease, RungQueue
from hpsearch.worker.checkpoint_writer import Checkpointer
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.writer import Writer

Answer = TypeVar("Answer")


class Rungs:
    """The rules of a stage, applied to its queue.

    Args:
        queue: of the stage.
        halving: the rules.
        insist: asks the database until it answers.
        written: waits until everything that the worker has handed to its writer is in the database.
    """

    def __init__(
        self,
        queue: RungQueue,
        halving: Halving,
        insist: Callable[[Callable[[], Any]], Any],
        written: Callable[[], None],
    ) -> None:
        self.queue, self.halving = queue, halving
        self._insist, self._written = insist, written

    @property
    def pauses(self) -> bool:
        """Whether trials wait at rungs, and go on later from their checkpoints."""
        return self.halving.form == "promote"

    def take(self, limit: int) -> list[Lease]:
        """The trials that are next, of one structure."""
        choose = partial(self.halving.choose, limit=limit)
        return self._ask(lambda: self.queue.take_chosen(choose))

    def go_on(self, trials: Mapping[int, HeldTrial]) -> GoingOn:
        """What is decided of trials at their stops, by number."""
        choose = partial(self.halving.go_on, numbers=trials.keys())
        leases = [trial.lease for trial in trials.values()]
        return self._ask(lambda: self.queue.go_on(leases, choose, self.halving.direction))

    def pause(
        self, endings: Sequence[tuple[Lease, int, Mapping[str, Any]]], writer: Writer, checkpointer: Checkpointer
    ) -> None:
        """Let trials wait, later: once their checkpoints are on disk, since nobody has them in hand from then on."""

        def written() -> None:
            checkpointer.flush()
            self.queue.pause(endings)
            writer.let_go([lease for lease, _, _ in endings])

        writer.later(written)

    def close(self) -> Closing:
        """End the stage, if there is nothing left to train and nobody has anything in hand."""
        choose = partial(self.halving.choose, limit=1)
        keep = partial(best_paused, self.halving)
        left_out = TrialRecord(attributes.SPENT, epoch=0).as_attributes()
        complete = partial(best_stopped, self.halving)
        return self._ask(lambda: self.queue.close(choose, keep, self.halving.direction, left_out, complete))

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        self._written()
        answer: Answer = self._insist(question)
        return answer
