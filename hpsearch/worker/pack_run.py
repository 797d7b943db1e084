"""One pack from the first epoch, or from its checkpoints, to the end of its last trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from hpsearch.analysis import attributes
from hpsearch.config import StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.logs import get_logger
from hpsearch.phases import phase, tell
from hpsearch.results import EXPLODED_VALUE, EpochResult, TrialSpec
from hpsearch.stages.listener import Listener
from hpsearch.stages.proposals import Mirror
from hpsearch.training.checkpoints import Checkpoint
from hpsearch.training.early_stopping import stopped_early
from hpsearch.training.folds import TrainedPack, make_pack
from hpsearch.training.snapshot import Snapshot
from hpsearch.worker.checkpoint_writer import Checkpointer
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.pack_endings import Kept, PackEndings, ending_of
from hpsearch.worker.rungs import Rungs
from hpsearch.worker.stopping import Stop
from hpsearch.worker.writer import Writer

log = get_logger(__name__)


def create_pack(
    config: StudyConfig,
    data: TrainingData,
    numbers: Sequence[int],
    held: Mapping[int, HeldTrial],
    engine: str,
    *,
    keeps_best: bool = True,
    refills: bool = False,
) -> TrainedPack:
    """The pack of some trials, at its beginning or where their checkpoints are.

    Args:
        config: with the structural values of the trials.
        data: their images.
        numbers: of the trials, by slot.
        held: those trials, and maybe others, by number.
        engine: auto, loop, vmap, fused or graph.
        keeps_best: whether weights may be kept of them.
        refills: whether others may take the places of those that end.
    """
    specs, snapshots = _begun(numbers, held)
    return make_pack(config, data, specs, engine=engine, snapshots=snapshots, keeps_best=keeps_best, refills=refills)


def _begun(numbers: Sequence[int], held: Mapping[int, HeldTrial]) -> tuple[list[TrialSpec], dict[int, Snapshot]]:
    snapshots = {n: found.snapshot for n in numbers if (found := held[n].checkpoint) is not None}
    return [TrialSpec(number, held[number].lease.params) for number in numbers], snapshots


class PackRun:
    """Trains one pack and hands everything it learns to the writer.

    Args:
        pack: as `create_pack` makes it.
        held: the trials by number; those that are over, or lost, are taken out.
        pruner: its name, as the reason of those it stops.
        keep: called with trials that complete, while they are in the pack; gives what is kept with some.
        after_epoch: called after each epoch.
        more: takes at most so many trials more into `held` and gives their numbers, none if none wait; for a pack
            that refills.
        exploded_value: what a trial that explodes has instead of a value.
        rungs: what is decided where trials ask whether they may go on; None where they do not.
    """

    def __init__(
        self,
        pack: TrainedPack,
        held: dict[int, HeldTrial],
        *,
        pruner: str,
        keep: Callable[[Mapping[int, HeldTrial]], Mapping[int, Kept]],
        writer: Writer,
        checkpointer: Checkpointer,
        checkpoint_seconds: float,
        mirror: Mirror | None,
        listener: Listener,
        stop: Stop,
        after_epoch: Callable[[], None],
        more: Callable[[int], Sequence[int]] = lambda _num: (),
        exploded_value: float = EXPLODED_VALUE,
        rungs: Rungs | None = None,
    ) -> None:
        self.rungs = rungs
        self.pack, self.held, self.pruner = pack, held, pruner
        self.writer, self.checkpointer, self.mirror = writer, checkpointer, mirror
        self.endings = PackEndings(held, pack.metric, keep, writer, mirror, exploded_value)
        self.checkpoint_seconds = checkpoint_seconds
        self.listener, self.stop = listener, stop
        self.after_epoch, self.more = after_epoch, more
        self._take_up(pack.numbers)
        self._checkpointed = time.monotonic()

    def run(self) -> dict[int, HeldTrial]:
        """Train to the end; returns the trials that completed, by number, still in the pack.

        Raises:
            Stopped: a stop was asked for; the live trials have checkpoints of the last whole epoch.
        """
        self._ask_at_stops()  # those of a worker that died there
        while not self.pack.done:
            with phase("training"), self.stop.epoch():
                report = self.pack.run_epoch()
            tell("first epoch")
            self._record(report.results)
            self.listener.measured(report.results)
            self.endings.exploded(report.explosions)
            self._end_before_time(report.results)
            self._ask_at_stops()
            self._refill()
            self.listener.epoch_finished(len(report.results) + len(report.explosions))
            self.after_epoch()
            self._checkpoint()
        return {number: self.held[number] for number in self.pack.numbers if number in self.held}

    def _take_up(self, numbers: Sequence[int]) -> None:
        """What an earlier attempt reported counts again from its checkpoint on."""
        for number in numbers:
            checkpoint = self.held[number].checkpoint
            self.held[number].results = list(checkpoint.results) if checkpoint else []
        earlier = [(self.held[n].lease, result) for n in numbers for result in self.held[n].results]
        self.writer.record(earlier)
        if self.mirror is not None:
            for _, result in earlier:
                self.mirror.report(result.number, result.epoch, result.val_score)  # a pruner looks at whole curves
        self.listener.measured([result for _, result in earlier], earlier=True)

    def _refill(self) -> None:
        """Let others take the places of those that have ended, and of those that have gone through all epochs."""
        if not self.pack.refills:
            return
        done = [number for number in self.pack.numbers if self.pack.epochs_of(number) >= self.pack.num_epochs]
        self.endings.complete({number: self.held[number] for number in done if number in self.held})
        self.pack.drop(done)
        if not self.pack.num_vacant:
            return
        if numbers := self.more(self.pack.num_vacant):
            self.pack.admit(*_begun(numbers, self.held))
            self._take_up(numbers)
            self._ask_at_stops()
        else:
            self.pack.close()

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

    def _end_before_time(self, results: Sequence[EpochResult]) -> None:
        """Of the trials that have epochs left, end those that do not get better, and those that the pruner stops."""
        live = [result for result in results if result.number in self.held]
        mirror, patience = self.mirror, self.pack.config.train.patience
        # All at the same epoch, so that each is compared with all others.
        stopped = [r.number for r in live if mirror is not None and mirror.report(r.number, r.epoch, r.val_score)]
        going_on = {result.number for result in live if result.epoch < self.pack.num_epochs}
        stopped = [number for number in stopped if number in going_on]
        early: list[int] = []
        if patience is not None:
            curves = {number: [each.val_score for each in self.held[number].results] for number in going_on}
            direction = self.pack.metric.direction
            early = [number for number, values in curves.items() if stopped_early(values, patience, direction)]
        self._complete_before_time(early, attributes.STOPPED_EARLY)
        if mirror is not None:
            stopped = [number for number in stopped if number not in early]
            best = self.pack.metric.goodness(mirror.best_value)
            self._prune(stopped, {number: mirror.why_stopped(number, self.pruner) for number in stopped}, best)

    def _ask_at_stops(self) -> None:
        """Trials that have come to a rung, or to where a budget ends, go on, wait there, or end."""
        if self.rungs is None:
            return
        here = {
            number: trial for number in self.pack.numbers if (trial := self.held.get(number)) and self._stops(number)
        }
        why = {number: self.rungs.halving.why_ended(self.pack.epochs_of(number)) for number in here}
        for number in [number for number, trial in here.items() if trial.ends_here]:
            del here[number]
            self._complete_before_time([number], why[number])
        if not here:
            return
        if self.rungs.pauses:
            self._pause(list(here), why)
            return
        decided = self.rungs.go_on(here)
        self.forget([number for number in here if number not in decided.kept])
        for number, until in decided.until.items():
            here[number].until = until
        # The best at a rung always goes on, and no value gets worse: so what ends here is seldom the best of the stage.
        self._prune([number for number in decided.kept if number not in decided.until], why, decided.best)

    def _stops(self, number: int) -> bool:
        trial, done = self.held[number], self.pack.epochs_of(number)
        return trial.until is not None and trial.until <= done < self.pack.num_epochs

    def _pause(self, numbers: Sequence[int], why: Mapping[int, str]) -> None:
        """Let trials wait for whoever promotes them, and goes on with them from their checkpoints."""
        assert self.rungs is not None
        # All of them before the first is let go: a state that cannot be read leaves every one in hand.
        checkpoints = {n: Checkpoint(self.pack.snapshot(n), list(self.held[n].results)) for n in numbers}
        endings = []
        for number, checkpoint in checkpoints.items():
            trial = self.held.pop(number)
            self.checkpointer.save(number, checkpoint)
            endings.append((trial.lease, checkpoint.snapshot.epoch, ending_of(trial, why[number]).as_attributes()))
        self.rungs.pause(endings, self.writer, self.checkpointer)
        self.pack.drop(numbers)
        if self.mirror:
            for number, checkpoint in checkpoints.items():
                self.mirror.pause(number, checkpoint.snapshot.epoch)

    def _prune(self, numbers: Sequence[int], why: Mapping[int, str], best: float) -> None:
        self.endings.stopped(numbers, why, best)
        self.pack.drop(numbers)

    def _complete_before_time(self, numbers: Sequence[int], reason: str) -> None:
        self.endings.complete({number: self.held[number] for number in numbers}, reason)
        self.pack.drop(numbers)

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
