"""A worker: takes trials from the queue, has them trained in packs, until nothing is left to take.

Hyperparameters that are not drawn yet are proposed when a trial is taken. Whatever ends the worker, trials that it has
not finished go back to the queue, with their checkpoints.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hpsearch.config import RunConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import HpsearchError
from hpsearch.logs import get_logger
from hpsearch.results import TrialSpec
from hpsearch.search import attributes, spool
from hpsearch.search.evidence import best_trial, observe
from hpsearch.search.failures import PoisonedDeviceError, first_line, is_out_of_memory, is_poisoned
from hpsearch.search.images import load_data
from hpsearch.search.pack_run import HeldTrial, PackRun
from hpsearch.search.plan import StagePlan
from hpsearch.search.portrait import keep_portrait
from hpsearch.search.progress import Listener, StageStarted, TrialFinished
from hpsearch.search.proposals import Mirror, needs_mirror
from hpsearch.search.stopping import Stop
from hpsearch.search.width import choose_width
from hpsearch.search.writer import Lost, Writer, Written
from hpsearch.storage import (
    Database,
    Lease,
    Outcome,
    Queue,
    StorageAwayError,
    StudyRow,
    find_study,
    new_worker_id,
    read_trials,
)
from hpsearch.training import group
from hpsearch.training.checkpoints import Checkpoints

MOST_EQUAL_FAILURES = 3  # the same error so many times running stops the stage
MOST_POISONED = 2  # processes that a trial may poison before it fails
QUICK_PATIENCE = 5.0  # seconds that a worker which was stopped waits for a database that is away

log = get_logger(__name__)


class Worker:
    """Works on one stage until no trial is left to take.

    Args:
        db: an open database of this process.
        study: the stage.
        plan: what the stage was made from.
        data: its images.
        run: folders, engine, width.
        listener: hears what happens, in the calling thread.
        stop: asked at each epoch's end whether to go on.
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
    ) -> None:
        self.db, self.study, self.plan, self.run_config = db, study, plan, run
        self.listener, self.stop = listener or Listener(), stop or Stop()
        self.queue = Queue(db, study, new_worker_id(), run.lease_seconds)
        self.spool_folder = Path(run.artifact_dir) / "spool"
        name = f"{plan.fingerprint(data.fingerprint)}-{study.study_id}"
        self.checkpoints = Checkpoints(Path(run.artifact_dir) / "checkpoints", name)
        rows = read_trials(db, study)
        self.num_trials = len(rows)
        self.mirror: Mirror | None = None
        if needs_mirror(plan.settings):
            self.mirror = Mirror(study.name, plan.config.space, plan.settings, rows)
        self.width = choose_width(plan.trial_config, data, run, plan.settings, self.num_trials)
        self.images = {plan.trial_config.data: data}
        self.held: dict[int, HeldTrial] = {}
        self.failures: list[str] = []
        self.on_tick: Callable[[], None] = lambda: None
        """Called every few seconds, in another thread."""
        best = best_trial(rows, "maximize")
        self.best_value = best.value if best else None
        self.started = StageStarted(
            study=study.name,
            num_trials=self.num_trials,
            num_finished=sum(row.state not in ("WAITING", "RUNNING") for row in rows),
            num_pruned=sum(row.state == "PRUNED" for row in rows),
            num_exploded=sum(observe(row, "maximize").outcome == "exploded" for row in rows),
            num_epochs=plan.settings.epochs,
            best_value=self.best_value,
            engine=run.engine,
            width=self.width,
            device=str(data.x_train_NCHW.device),
        )

    def run(self) -> None:
        """Work until every trial of the stage has ended, here or in other workers' hands.

        Raises:
            HpsearchError: the same error ended several packs running.
            PoisonedDeviceError: this process cannot use its device any more.
            KeyboardInterrupt: passed on, after unfinished trials went back to the queue; `Stopped` if asked for.
        """
        self.listener.stage_started(self.started)
        spool.recover(self.db, self.spool_folder)
        self.queue.release_dead()
        self.begun_at = self.db.read_now()
        self.writer = Writer(self.queue, self.spool_folder, self.listener.note, self._tick)
        patience: dict[str, float] = {"patience": QUICK_PATIENCE}
        try:
            self._work_until_done()
            patience = {}
        finally:
            if self.held:
                self._give_back()
            self.writer.close(**patience)
            self._hear_news()

    def _work_until_done(self) -> None:
        while True:
            self.stop.raise_if_requested()
            leases = self._take()
            if leases:
                self._work(leases)
                continue
            self.writer.flush()
            self._hear_news()
            if not self._wait_for_others():
                return

    def _tick(self) -> None:
        """Whether somebody asked all workers of the stage to stop since this one began."""
        asked_at = find_study(self.db, self.study.name).attrs.get(attributes.STOP)
        if asked_at is not None and asked_at > self.begun_at:
            self.stop.request()
        self.on_tick()

    def _take(self) -> list[Lease]:
        """The next trials; waits for a database that is away."""
        pause = 0.1
        while True:
            try:
                return self.queue.take(self.width)
            except StorageAwayError as error:
                self.listener.note(f"database away, waiting: {str(error).splitlines()[-1]}")
                self.stop.raise_if_requested()
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def _wait_for_others(self) -> bool:
        """Whether trials are still in other workers' hands; waits until one of their leases may have run out."""
        standing = self.queue.standing()
        if standing.num_waiting:
            return True
        if not standing.num_running or standing.seconds_to_expiry is None:
            return False
        time.sleep(min(max(standing.seconds_to_expiry, 0.05), 0.5))
        self.queue.release_dead()
        return True

    def _work(self, leases: Sequence[Lease]) -> None:
        self.held = {lease.number: HeldTrial(lease) for lease in leases}
        self.writer.hold(leases)
        for number, trial in self.held.items():
            if trial.lease.attempt > 1 and (found := self.checkpoints.load(number)) is not None:
                trial.checkpoint = found
                self.listener.note(f"trial {number} resumes at epoch {found.snapshot.epoch + 1}")
        self._propose()
        for config, members in group(
            self.plan.trial_config, [TrialSpec(n, t.lease.params) for n, t in self.held.items()]
        ):
            by_epoch: dict[int, list[int]] = {}
            for spec in members:
                checkpoint = self.held[spec.number].checkpoint
                by_epoch.setdefault(checkpoint.snapshot.epoch if checkpoint else 0, []).append(spec.number)
            for numbers in by_epoch.values():
                self._train(config, numbers)

    def _propose(self) -> None:
        """Hyperparameters for trials that have none yet, from the sampler; the mirror learns of all others."""
        if self.mirror is None:
            return
        self.mirror.learn(read_trials(self.db, self.study), mine=self.held)
        proposed = []
        for number, trial in self.held.items():
            if trial.lease.params:
                self.mirror.adopt(number, trial.lease.params)
            else:
                trial.lease = replace(trial.lease, params=self.mirror.propose(number))
                proposed.append((trial.lease, trial.lease.params))
        if proposed:
            self.queue.set_params(proposed, self.plan.config.space)

    def _train(self, config: StudyConfig, numbers: Sequence[int]) -> None:
        """Train trials of one structure and epoch in one pack, or in halves where the memory does not do."""
        numbers = [number for number in numbers if number in self.held]
        try:
            run = PackRun(
                config,
                self._images(config),
                numbers,
                self.held,
                engine=self.run_config.engine,
                pruner=self.plan.settings.pruner,
                writer=self.writer,
                checkpoints=self.checkpoints,
                checkpoint_seconds=self.run_config.checkpoint_seconds,
                mirror=self.mirror,
                listener=self.listener,
                stop=self.stop,
            )
            self.current = run
            run.after_epoch = self._hear_news
            completed = run.run()
            self._keep_best(run, config, completed)
            run.complete(completed)
        except Exception as error:
            if is_out_of_memory(error) and len(numbers) > 1:
                self._train_halves(config, numbers)
            elif is_poisoned(error):
                self._poisoned(numbers, error)
            else:
                self._fail(numbers, error)
        self._hear_news()

    def _train_halves(self, config: StudyConfig, numbers: Sequence[int]) -> None:
        import torch

        half = (len(numbers) + 1) // 2
        self.width = min(self.width, half)
        self.listener.note(f"out of memory: pack {len(numbers)} -> {half}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._train(config, numbers[:half])
        self._train(config, numbers[half:])

    def _images(self, config: StudyConfig) -> TrainingData:
        """The images as this structure wants them: a search over data.normalize or data.augment prepares several."""
        if config.data not in self.images:
            self.images[config.data] = load_data(config, self.run_config)
        return self.images[config.data]

    def _keep_best(self, run: PackRun, config: StudyConfig, completed: dict[int, HeldTrial]) -> None:
        """Keep the weights of the pack's best trial if it is the best of the stage so far."""
        if self.run_config.keep == "none" or not completed:
            return
        number, trial = max(completed.items(), key=lambda item: (item[1].best.val_acc, -item[0]))
        value = trial.best.val_acc
        if self.best_value is None or value > self.best_value:
            self.best_value = value
            folder = Path(self.run_config.artifact_dir)
            keep_portrait(self.db, self.study, folder, run.pack, config, self._images(config), number, value)

    def _poisoned(self, numbers: Sequence[int], error: Exception) -> None:
        """The process is lost, its trials are not: they go to another one, unless they did this before."""
        again = [n for n in numbers if n in self.held and self.held[n].lease.attempt >= MOST_POISONED]
        self._fail(again, error)
        raise PoisonedDeviceError(
            f"the device refuses further work in this process: {first_line(error)}\nThe same command goes on."
        ) from error

    def _fail(self, numbers: Sequence[int], error: Exception) -> None:
        """The user's code, or ours, raised: these trials FAIL with the traceback, the others go on."""
        text = "".join(traceback.format_exception(error))
        attrs = {attributes.REASON: first_line(error), attributes.TRACEBACK: text[-4000:]}
        outcomes = []
        for number in numbers:
            if (trial := self.held.pop(number, None)) is not None:
                outcomes.append(Outcome(trial.lease, "FAIL", None, attrs))
                if self.mirror:
                    self.mirror.fail(number)
        if not outcomes:
            return
        self.writer.finish(outcomes)
        log.info("trials %s failed\n%s", [outcome.lease.number for outcome in outcomes], text)
        self.failures.append(attrs[attributes.REASON])
        last = self.failures[-MOST_EQUAL_FAILURES:]
        if len(last) == MOST_EQUAL_FAILURES and len(set(last)) == 1:
            raise HpsearchError(
                f"{MOST_EQUAL_FAILURES} packs running failed with the same error; the stage stops.\n{last[-1]}"
            ) from error

    def _give_back(self) -> None:
        """Trials that are not finished wait again, for whoever is next."""
        leases = [trial.lease for trial in self.held.values()]
        self.writer.let_go(leases)
        self.writer.flush(QUICK_PATIENCE)
        try:
            self.queue.release(leases)
        except StorageAwayError:
            self.listener.note("database away: the trials go back to the queue when their leases run out")

    def _hear_news(self) -> None:
        """Tell the listener what the writer has brought into the database, or has found lost."""
        for news in self.writer.news():
            match news:
                case Written(outcome, num_finished):
                    self._tell(outcome, num_finished)
                case Lost(lease):
                    self.listener.note(f"lease lost, result discarded: trial {lease.number}")
                    if lease.number in self.held:
                        self.current.forget([lease.number])

    def _tell(self, outcome: Outcome, num_finished: int) -> None:
        self.checkpoints.remove(outcome.lease.number)
        self.listener.trial_finished(
            TrialFinished(
                number=outcome.lease.number,
                state=outcome.state,
                value=outcome.value,
                params=outcome.lease.params,
                reason=outcome.attrs.get(attributes.REASON),
                epoch=outcome.attrs.get(attributes.EPOCH) or self.plan.settings.epochs,
                num_finished=num_finished,
                num_trials=self.num_trials,
            )
        )
