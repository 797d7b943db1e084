"""A worker: takes trials from the queue, has them trained in packs, until nothing is left to take.

Hyperparameters that are not drawn yet are proposed when a trial is taken. Whatever ends the worker, trials that it has
not finished go back to the queue, with their checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from typing_extensions import override

from hpsearch.analysis.study_trials import best_trial, direction_of
from hpsearch.config import RunConfig, StudyConfig, is_vector
from hpsearch.config.metric import metric_of
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import HpsearchError, RefusedError, StorageError
from hpsearch.logs import get_logger
from hpsearch.phases import phase
from hpsearch.stages.continued import STAGES, states_folder
from hpsearch.stages.earlier_trials import counted, read_earlier_trials
from hpsearch.stages.listener import Listener, shown_trials, standing
from hpsearch.stages.mirrors import make_mirror
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.sampler_knowledge import knowledge_of
from hpsearch.storage import (
    Database,
    Lease,
    Outcome,
    StudyRow,
    read_trials,
)
from hpsearch.training.checkpoints import Checkpoint, Checkpoints, checkpoint_folder
from hpsearch.training.device_memory import free_memory, is_out_of_memory
from hpsearch.training.images import images_key, load_images
from hpsearch.training.metric_limits import exploded_value
from hpsearch.tuning.workload import choose_width
from hpsearch.worker.checkpoint_writer import Checkpointer
from hpsearch.worker.continuing import Continuing
from hpsearch.worker.failures import Failures, PoisonedDeviceError, failure_of, first_line, is_poisoned
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.kept_weights import Keeper
from hpsearch.worker.pack_run import PackRun, create_pack
from hpsearch.worker.resumption import resumption
from hpsearch.worker.stage_worker import StageWorker
from hpsearch.worker.stopping import Stop
from hpsearch.worker.top_snapshots import STATES, TopSnapshots
from hpsearch.worker.trial_source import packs_of

MAX_POISONED = 2  # processes that a trial may poison before it fails
WORST_SKEW = 30.0  # seconds between two clocks that are not worth a word
STOP_SECONDS = 0.5  # between two looks whether to stop, while a database that is away is waited for
QUICK_PATIENCE = 5.0  # seconds that a worker which was stopped waits for a database that is away

log = get_logger(__name__)


class Worker(StageWorker):
    """Works on one stage until no trial is left to take.

    Args:
        db: an open database of this process.
        study: the stage.
        plan: what the stage was made from.
        data: its images.
        run: folders, engine, width.
        listener: hears what happens, in the calling thread.
        stop: asked at each epoch's end whether to go on.
        workers: of the stage, as far as is known.
    """

    def __init__(
        self,
        db: Database,
        study: StudyRow,
        plan: StagePlan,
        data: TrainingData,
        run: RunConfig,
        listener: Listener | None = None,
        stop: Stop | None = None,
        *,
        workers: int | None = None,
    ) -> None:
        super().__init__(db, study, plan, run, listener, stop)
        self.metric = metric_of(plan.config.train.metric)
        if self.metric.direction != (made := direction_of(study)):
            raise RefusedError(
                f"train.metric = {self.metric.name!r} is to {self.metric.direction} now, but {study.name!r} was made to"
                f" {made}.\nMake the function say what it said then (`minimize`), or search under another name."
            )
        self.exploded_value = exploded_value(plan.trial_config, self.metric, data)
        folder = checkpoint_folder(plan.fingerprint(data.fingerprint), study.study_id)
        self.keeps_best = run.keep != "none"
        self.checkpoints = Checkpoints(
            Path(run.artifact_dir) / "checkpoints", folder, needs_best=self.keeps_best, direction=made
        )
        self.checkpointer = Checkpointer(self.checkpoints, self.listener.note)
        states = Path(run.artifact_dir) / STATES
        self.continuing = Continuing(states, self.listener.note, needs_best=self.keeps_best, direction=made)
        kept = Checkpoints(states, states_folder(study), needs_best=self.keeps_best, direction=made)
        num_top = plan.settings.keep_top if plan.kind in STAGES else 0
        self.top = TopSnapshots(kept, num_top, self.metric, self.listener.note)
        rows = self._insist(lambda: read_trials(db, study))
        halving = self.rungs.halving if self.rungs is not None else None
        self.num_trials = shown_trials(len(rows), halving)
        earlier = self._insist(lambda: read_earlier_trials(db, study, plan))
        self.mirror = make_mirror(study, plan, rows, self.metric, earlier)
        self.width = choose_width(plan.trial_config, data, run, plan.settings, len(rows))
        self.one_structure = all(map(is_vector, plan.config.space))
        self.images = {images_key(plan.trial_config): data}
        self.failures = Failures(plan.config.space)
        self.keeper = Keeper(db, study, run, best_trial(rows, made), self.metric)
        self.started = standing(
            study.name,
            rows,
            plan.settings.epochs,
            engine=run.engine,
            width=self.width,
            device=str(data.x_train_NCHW.device),
            learning=knowledge_of(plan.settings, self.width, workers, counted(earlier)),
            metric=self.metric,
            halving=halving,
        )

    @override
    def _train_held(self) -> None:
        """Train the trials in hand."""
        resuming = {
            number: trial.checkpoint.snapshot.epoch + 1
            for number, trial in self.held.items()
            if trial.checkpoint is not None and not trial.is_promoted  # which is what rungs are for
        }
        if resuming:
            self.listener.note(resumption(resuming))
        with phase("trials"):
            self.source.propose_params(self.held, self.held)
        self._train_packs(list(self.held))

    def _train_packs(self, numbers: Sequence[int]) -> None:
        """Train these, where they are still in hand."""
        held = {number: self.held[number] for number in numbers if number in self.held}
        for config, alike in packs_of(self.plan.trial_config, held):
            for first in range(0, len(alike), self.width):  # which may have shrunk since they were taken
                self._train(config, alike[first : first + self.width])

    def _more(self, numbers: list[int], num: int) -> Sequence[int]:
        """Trials for free slots of a pack of these, which they join."""
        fresh: dict[int, HeldTrial] = {}
        try:
            self.source.take_trials(fresh, num)
        finally:
            self.held |= fresh  # at once: whatever happens, they are given back
        self.source.propose_params(fresh, self.held)
        numbers += fresh
        return list(fresh)

    def _train(self, config: StudyConfig, numbers: Sequence[int]) -> None:
        """Train trials of one structure and epoch in one pack, or in halves where that does not do."""
        numbers = [number for number in numbers if number in self.held]
        try:
            data = self._images(config)
            engine, keeps, refills = self.run_config.engine, self.keeps_best, self.one_structure
            with phase("nets"):
                pack = create_pack(config, data, numbers, self.held, engine, keeps_best=keeps, refills=refills)
            self.current = run = PackRun(
                pack,
                self.held,
                pruner=self.plan.settings.pruner,
                keep=self.top.beside(pack, partial(self.keeper.keep, pack, config, data, writer=self.writer)),
                writer=self.writer,
                checkpointer=self.checkpointer,
                checkpoint_seconds=self.run_config.checkpoint_seconds,
                mirror=self.mirror,
                listener=self.listener,
                stop=self.stop,
                after_epoch=self._hear_news,
                more=partial(self._more, numbers),
                exploded_value=self.exploded_value,
                rungs=self.rungs,
            )
            run.endings.complete(run.run())
            self.failures.clear()
        except StorageError:
            raise  # no trial's fault
        except Exception as error:
            numbers = [number for number in numbers if number in self.held]  # others have come, and gone, meanwhile
            if is_poisoned(error):
                self._poisoned(numbers, error)
            elif len(numbers) > 1 and (is_out_of_memory(error) or not isinstance(error, HpsearchError)):
                self._train_halves(numbers, error)
            else:
                self._fail(numbers, error, config)
        self._hear_news()

    def _train_halves(self, numbers: Sequence[int], error: Exception) -> None:
        """A pack raised: too little memory for so many, or one of its trials, which the halving will find alone."""
        half = (len(numbers) + 1) // 2
        if is_out_of_memory(error):
            self.width = min(self.width, half)
            self.listener.note(f"out of memory: pack {len(numbers)} -> {half}")
            free_memory()
        else:
            log.info("a pack of %d raised %s; it goes on in halves", len(numbers), first_line(error))
        for part in (numbers[:half], numbers[half:]):
            self._train_packs(part)

    def _images(self, config: StudyConfig) -> TrainingData:
        """The images as this structure wants them: a search over data.normalize prepares several."""
        key = images_key(config)
        data = self.images[key] if key in self.images else load_images(config, self.run_config)
        self.images[key] = data.augmented_by(config.data.augment)
        return self.images[key]

    def _poisoned(self, numbers: Sequence[int], error: Exception) -> None:
        """The process is lost, its trials are not: they go to another one, unless they did this before."""
        again = [n for n in numbers if n in self.held and self.held[n].attempts >= MAX_POISONED]
        self._fail(again, error, self.plan.trial_config)
        raise PoisonedDeviceError.by(error) from error

    def _fail(self, numbers: Sequence[int], error: Exception, config: StudyConfig) -> None:
        """The user's code, or ours, raised: these trials FAIL with the traceback, the others go on."""
        failure = failure_of(error)
        outcomes = []
        for number in numbers:
            if (trial := self.held.pop(number, None)) is not None:
                outcomes.append(Outcome(trial.lease, "FAIL", None, failure.as_attributes()))
                if self.mirror:
                    self.mirror.fail(number)
        if not outcomes:
            return
        self.writer.finish(outcomes)
        log.info("trials %s failed\n%s", [o.lease.number for o in outcomes], failure.traceback)
        self.failures.add(first_line(error), len(outcomes), config, error)

    @override
    def _forget(self, number: int) -> None:
        self.current.forget([number])

    @override
    def _continued(self, lease: Lease) -> Checkpoint | None:
        return self.continuing.begin(lease, self.plan.settings.epochs)

    @override
    def _over(self, number: int) -> None:
        self.checkpointer.remove(number)

    @override
    def _at_rest(self) -> None:
        self.checkpointer.flush()

    @override
    def _close(self) -> None:
        self.checkpointer.close()
