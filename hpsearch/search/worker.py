"""The place where the queue and the training meet: takes trials, trains them in packs, writes what happened.

A worker takes as many trials as fit into a pack, has their hyperparameters drawn if they are not yet, trains them in
lockstep, and writes after each epoch. Whatever ends it, trials that it has not finished go back to the queue.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpsearch.config import RunConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import HpsearchError
from hpsearch.logs import get_logger
from hpsearch.results import EpochResult, Explosion, TrialSpec
from hpsearch.search import attributes
from hpsearch.search.evidence import best_trial, observe
from hpsearch.search.images import load_data
from hpsearch.search.plan import StagePlan
from hpsearch.search.portrait import keep_portrait
from hpsearch.search.progress import Listener, StageStarted, TrialFinished
from hpsearch.search.proposals import EXPLODED_VALUE, Mirror, explosion_attributes, needs_mirror
from hpsearch.search.width import choose_width
from hpsearch.storage import Database, Lease, Outcome, Queue, StudyRow, new_worker_id, read_trials
from hpsearch.training import Pack, group

MOST_EQUAL_FAILURES = 3  # the same error so many times running stops the stage

log = get_logger(__name__)


@dataclass
class _Trial:
    """A trial in this worker's hands."""

    lease: Lease
    params: dict[str, Any]
    results: list[EpochResult] = field(default_factory=list)

    @property
    def best(self) -> EpochResult:
        return max(self.results, key=lambda result: (result.val_acc, -result.epoch))


class Worker:
    """Works on one stage until no trial is left to take."""

    def __init__(
        self,
        db: Database,
        study: StudyRow,
        plan: StagePlan,
        data: TrainingData,
        run: RunConfig,
        listener: Listener | None = None,
    ) -> None:
        self.plan, self.run_config = plan, run
        self.listener = listener or Listener()
        self.queue = Queue(db, study, new_worker_id())
        rows = read_trials(db, study)
        self.num_trials = len(rows)
        self.mirror = (
            Mirror(study.name, plan.config.space, plan.settings, rows) if needs_mirror(plan.settings) else None
        )
        self.width = choose_width(plan.trial_config, data, run, plan.settings, self.num_trials)
        self.images = {plan.trial_config.data: data}
        self.trials: dict[int, _Trial] = {}
        self.failures: list[str] = []
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
            HpsearchError: the same error ended several trials running.
            KeyboardInterrupt: passed on, after unfinished trials went back to the queue.
        """
        self.listener.stage_started(self.started)
        self.queue.release_dead()
        try:
            while True:
                leases = self.queue.take(self.width)
                if leases:
                    self._work(leases)
                elif not self._wait_for_others():
                    return
        finally:
            held = [trial.lease for trial in self.trials.values()]
            if held:
                self.queue.release(held)

    def _wait_for_others(self) -> bool:
        """Whether trials are still in other workers' hands; waits until one of their leases may have run out."""
        standing = self.queue.standing()
        if standing.num_waiting:
            return True
        if not standing.num_running or standing.seconds_to_expiry is None:
            return False
        self.listener.note(f"{standing.num_running} trials are in the hands of other workers; waiting for them to end")
        time.sleep(min(max(standing.seconds_to_expiry, 0.1), 2.0))
        self.queue.release_dead()
        return True

    def _work(self, leases: Sequence[Lease]) -> None:
        self.trials = {lease.number: _Trial(lease, dict(lease.params or {})) for lease in leases}
        self._propose()
        specs = [TrialSpec(number, trial.params) for number, trial in self.trials.items()]
        with self._leases_renewed():
            for config, members in group(self.plan.trial_config, specs):
                try:
                    self._train(config, members)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except Exception as error:
                    self._fail([spec.number for spec in members], error)

    def _propose(self) -> None:
        """Hyperparameters for trials that have none yet, from the sampler; the mirror learns of all others."""
        proposed = []
        for number, trial in self.trials.items():
            if trial.params and self.mirror:
                self.mirror.adopt(number, trial.params)
            elif not trial.params:
                assert self.mirror is not None, "a stage without a sampler has its hyperparameters drawn at creation"
                trial.params = self.mirror.propose(number)
                proposed.append((trial.lease, trial.params))
        if proposed:
            self.queue.set_params(proposed, self.plan.config.space)

    @contextmanager
    def _leases_renewed(self) -> Iterator[None]:
        """Renew the leases in hand beside the training, for epochs that last longer than a lease."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(self.queue.lease_seconds / 3):
                try:
                    self.queue.renew([trial.lease for trial in list(self.trials.values())])
                except HpsearchError as error:  # the next write says so, too
                    log.warning("leases could not be renewed: %s", error)

        thread = threading.Thread(target=renew, name="hpsearch-leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _train(self, config: StudyConfig, specs: Sequence[TrialSpec]) -> None:
        pack = Pack(config, self._images(config), specs, engine=self.run_config.engine)
        while not pack.done:
            report = pack.run_epoch()
            self._record(pack, report.results)
            self._finish_exploded(report.explosions)
            stopped = self._pruned(report.results)
            if stopped:
                pack.drop(stopped)
            self.listener.epoch_finished(len(report.results) + len(report.explosions))
        completed = [self.trials[number] for number in pack.numbers if number in self.trials]
        self._keep_best(pack, config, completed)
        outcomes = []
        for trial in completed:
            best = trial.best
            attrs = {
                attributes.BEST_EPOCH: best.epoch,
                attributes.LAST_VALUE: trial.results[-1].val_acc,
            }
            outcomes.append(Outcome(trial.lease, "COMPLETE", best.val_acc, attrs))
            if self.mirror:
                self.mirror.finish(trial.lease.number, best.val_acc)
        self._finish(outcomes)

    def _keep_best(self, pack: Pack, config: StudyConfig, completed: Sequence[_Trial]) -> None:
        """Keep the weights of the pack's best trial if it is the best of the stage so far."""
        if self.run_config.keep == "none" or not completed:
            return
        trial = max(completed, key=lambda trial: (trial.best.val_acc, -trial.lease.number))
        value, number = trial.best.val_acc, trial.lease.number
        if self.best_value is None or value > self.best_value:
            self.best_value = value
            folder = Path(self.run_config.artifact_dir)
            keep_portrait(self.queue.db, self.queue.study, folder, pack, config, self._images(config), number, value)

    def _images(self, config: StudyConfig) -> TrainingData:
        """The images as this structure wants them: a search over data.normalize or data.augment prepares several."""
        if config.data not in self.images:
            self.images[config.data] = load_data(config, self.run_config)
        return self.images[config.data]

    def _record(self, pack: Pack, results: Sequence[EpochResult]) -> None:
        rows = []
        for result in results:
            if (trial := self.trials.get(result.number)) is not None:
                trial.results.append(result)
                rows.append((trial.lease, result))
        lost = self.queue.record(rows)
        if lost:
            numbers = [lease.number for lease in lost]
            self.listener.note(f"lease lost, results discarded: trials {numbers}")
            for number in numbers:
                del self.trials[number]
            pack.drop(numbers)

    def _finish_exploded(self, explosions: Sequence[Explosion]) -> None:
        outcomes = []
        for explosion in explosions:
            trial = self.trials.get(explosion.number)
            if trial is None:
                continue
            attrs = explosion_attributes(explosion.epoch, explosion.step, explosion.cost, explosion.first_cost)
            last = (explosion.epoch, EXPLODED_VALUE)
            outcomes.append(Outcome(trial.lease, "PRUNED", EXPLODED_VALUE, attrs, last))
            if self.mirror:
                self.mirror.report(explosion.number, *last)
                self.mirror.finish(explosion.number, None, exploded=True)
        self._finish(outcomes)

    def _pruned(self, results: Sequence[EpochResult]) -> list[int]:
        """Ask the pruner about each trial that has epochs left, all at the same epoch; returns those stopped."""
        if self.mirror is None:
            return []
        verdicts = [
            (result, self.mirror.report(result.number, result.epoch, result.val_acc))
            for result in results
            if result.number in self.trials
        ]
        outcomes, stopped = [], []
        for result, stop in verdicts:
            if stop and result.epoch < self.plan.settings.epochs:
                trial = self.trials[result.number]
                attrs = {
                    attributes.REASON: self.plan.settings.pruner,
                    attributes.EPOCH: result.epoch,
                    attributes.BEST_EPOCH: trial.best.epoch,
                }
                outcomes.append(Outcome(trial.lease, "PRUNED", result.val_acc, attrs))
                self.mirror.finish(result.number, None)
                stopped.append(result.number)
        self._finish(outcomes)
        return stopped

    def _fail(self, numbers: Sequence[int], error: Exception) -> None:
        """The user's code, or ours, raised: these trials FAIL with the traceback, the others go on."""
        text = "".join(traceback.format_exception(error))
        left = [self.trials[number] for number in numbers if number in self.trials]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        attrs = {attributes.REASON: f"{type(error).__name__}: {reason}", attributes.TRACEBACK: text[-4000:]}
        for trial in left:
            if self.mirror:
                self.mirror.fail(trial.lease.number)
        self._finish([Outcome(trial.lease, "FAIL", None, attrs) for trial in left])
        log.info("trials %s failed\n%s", [trial.lease.number for trial in left], text)
        self.failures.append(attrs[attributes.REASON])
        if len(set(self.failures[-MOST_EQUAL_FAILURES:])) == 1 and len(self.failures) >= MOST_EQUAL_FAILURES:
            raise HpsearchError(
                f"{MOST_EQUAL_FAILURES} packs running failed with the same error; the stage stops.\n{self.failures[-1]}"
            ) from error

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        lost = {lease.number for lease in self.queue.finish(outcomes)}
        finished = self.queue.standing().num_finished
        for position, outcome in enumerate(outcomes):
            number = outcome.lease.number
            trial = self.trials.pop(number)
            if number in lost:
                self.listener.note(f"lease lost, result discarded: trial {number}")
                continue
            self.listener.trial_finished(
                TrialFinished(
                    number=number,
                    state=outcome.state,
                    value=outcome.value,
                    params=trial.params,
                    reason=outcome.attrs.get(attributes.REASON),
                    epoch=outcome.attrs.get(attributes.EPOCH) or len(trial.results),
                    num_finished=finished - len(outcomes) + position + 1,
                    num_trials=self.num_trials,
                )
            )
