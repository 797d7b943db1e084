"""One pack from the first epoch, or from its checkpoints, to the end of its last trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.config import StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.logs import get_logger
from hpsearch.results import EpochResult, Explosion, TrialSpec
from hpsearch.stages.listener import Listener
from hpsearch.stages.proposals import EXPLODED_VALUE, Mirror, explosion_attributes
from hpsearch.storage import Lease, Outcome
from hpsearch.training import Pack
from hpsearch.training.checkpoints import Checkpoint
from hpsearch.worker.checkpoint_writer import Checkpointer
from hpsearch.worker.stopping import Stop
from hpsearch.worker.writer import Writer

log = get_logger(__name__)


@dataclass
class HeldTrial:
    """A trial in this worker's hands."""

    lease: Lease
    results: list[EpochResult] = field(default_factory=list)
    checkpoint: Checkpoint | None = None

    @property
    def best(self) -> EpochResult:
        """Its best epoch, the earliest among equals."""
        return max(self.results, key=lambda result: (result.val_acc, -result.epoch))


def create_pack(
    config: StudyConfig, data: TrainingData, numbers: Sequence[int], held: Mapping[int, HeldTrial], engine: str
) -> Pack:
    """The pack of some trials, at its beginning or where their checkpoints are.

    Args:
        config: with the structural values of the trials.
        data: their images.
        numbers: of the trials, by slot.
        held: those trials, and maybe others, by number.
        engine: auto, loop, vmap or fused.
    """
    snapshots = {n: found.snapshot for n in numbers if (found := held[n].checkpoint) is not None}
    specs = [TrialSpec(number, held[number].lease.params) for number in numbers]
    return Pack(config, data, specs, engine=engine, snapshots=snapshots)


class PackRun:
    """Trains one pack and hands everything it learns to the writer.

    Args:
        pack: as `create_pack` makes it.
        held: the trials by number; those that are over, or lost, are taken out.
        pruner: its name, as the reason of those it stops.
        after_epoch: called after each epoch.
    """

    def __init__(
        self,
        pack: Pack,
        held: dict[int, HeldTrial],
        *,
        pruner: str,
        writer: Writer,
        checkpointer: Checkpointer,
        checkpoint_seconds: float,
        mirror: Mirror | None,
        listener: Listener,
        stop: Stop,
        after_epoch: Callable[[], None],
    ) -> None:
        self.pack, self.held, self.pruner = pack, held, pruner
        self.writer, self.checkpointer, self.mirror = writer, checkpointer, mirror
        self.checkpoint_seconds = checkpoint_seconds
        self.listener, self.stop = listener, stop
        self.after_epoch = after_epoch
        numbers = pack.numbers
        for number in numbers:
            checkpoint = held[number].checkpoint
            held[number].results = list(checkpoint.results) if checkpoint else []
        # What an earlier attempt reported counts again from its checkpoint on.
        earlier = [(held[n].lease, result) for n in numbers for result in held[n].results]
        writer.record(earlier)
        listener.measured([result for _, result in earlier], earlier=True)
        self._checkpointed = time.monotonic()

    def run(self) -> dict[int, HeldTrial]:
        """Train to the end; returns the trials that completed, by number, still in the pack.

        Raises:
            Stopped: a stop was asked for; the live trials have checkpoints of the last whole epoch.
        """
        while not self.pack.done:
            start = time.monotonic()
            report = self.pack.run_epoch()
            self.stop.epoch_seconds = time.monotonic() - start
            self._record(report.results)
            self.listener.measured(report.results)
            self._finish_exploded(report.explosions)
            self._prune(report.results)
            self.listener.epoch_finished(len(report.results) + len(report.explosions))
            self.after_epoch()
            self._checkpoint()
        return {number: self.held[number] for number in self.pack.numbers if number in self.held}

    def forget(self, numbers: Sequence[int]) -> None:
        """Let trials go that are another worker's now."""
        for number in numbers:
            self.held.pop(number, None)
        self.pack.drop([number for number in numbers if number in self.pack.numbers])

    def _record(self, results: Sequence[EpochResult]) -> None:
        rows = []
        for result in results:
            if (trial := self.held.get(result.number)) is not None:
                trial.results.append(result)
                rows.append((trial.lease, result))
        self.writer.record(rows)

    def _finish_exploded(self, explosions: Sequence[Explosion]) -> None:
        outcomes = []
        for explosion in explosions:
            if (trial := self.held.get(explosion.number)) is None:
                continue
            attrs = explosion_attributes(explosion.epoch, explosion.step, explosion.cost, explosion.first_cost)
            last = (explosion.epoch, EXPLODED_VALUE)
            outcomes.append(Outcome(trial.lease, "PRUNED", EXPLODED_VALUE, attrs, last))
            if self.mirror:
                self.mirror.report(explosion.number, *last)
                self.mirror.finish(explosion.number, None, exploded=True)
        self.end(outcomes)

    def _prune(self, results: Sequence[EpochResult]) -> None:
        """Ask the pruner about each trial that has epochs left, all at the same epoch."""
        if self.mirror is None:
            return
        verdicts = [
            (result, self.mirror.report(result.number, result.epoch, result.val_acc))
            for result in results
            if result.number in self.held
        ]
        outcomes = []
        for result, stop in verdicts:
            if not stop or result.epoch >= self.pack.num_epochs:
                continue
            trial = self.held[result.number]
            attrs = {
                attributes.REASON: self.pruner,
                attributes.EPOCH: result.epoch,
                attributes.BEST_EPOCH: trial.best.epoch,
            }
            outcomes.append(Outcome(trial.lease, "PRUNED", result.val_acc, attrs))
            self.mirror.finish(result.number, None)
        self.end(outcomes)
        self.pack.drop([outcome.lease.number for outcome in outcomes])

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Hand the ends of trials to the writer; they are out of this worker's hands."""
        self.writer.finish(outcomes)
        for outcome in outcomes:
            del self.held[outcome.lease.number]

    def complete(self, trials: Mapping[int, HeldTrial], weights: Mapping[int, Path]) -> None:
        """End those that went through all epochs; `weights` are the files of those that are kept."""
        outcomes = []
        for number, trial in trials.items():
            attrs: dict[str, Any] = {
                attributes.BEST_EPOCH: trial.best.epoch,
                attributes.LAST_VALUE: trial.results[-1].val_acc,
            }
            if number in weights:
                attrs[attributes.WEIGHTS] = str(weights[number])
            outcomes.append(Outcome(trial.lease, "COMPLETE", trial.best.val_acc, attrs))
            if self.mirror:
                self.mirror.finish(number, trial.best.val_acc)
        self.end(outcomes)

    def _checkpoint(self) -> None:
        """Every so often, and before a stop: keep the live trials as they are between two epochs."""
        stopping = self.stop.requested is not None
        due = time.monotonic() - self._checkpointed >= self.checkpoint_seconds
        if (due or stopping) and not self.pack.done:
            for number in self.pack.numbers:
                if (trial := self.held.get(number)) is not None:
                    trial.checkpoint = Checkpoint(self.pack.snapshot(number), list(trial.results))
                    self.checkpointer.save(number, trial.checkpoint)
            self._checkpointed = time.monotonic()
        self.stop.raise_if_requested()
