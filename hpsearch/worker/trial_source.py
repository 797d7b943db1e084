"""Where a worker's trials come from: leased from the queue, with hyperparameters where none are drawn yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hpsearch.config import StudyConfig
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.config.structure import group
from hpsearch.results import TrialSpec
from hpsearch.space.nearness import try_the_same
from hpsearch.stages.mirrors import needs_mirror
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import BEGUN, Mirror
from hpsearch.storage import ChosenParams, Lease, ParamChooser, Queue, TrialRow, read_trials, stop_of
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.writer import Writer

if TYPE_CHECKING:
    from hpsearch.training.checkpoints import Checkpoint

MOST_PROPOSALS = 5  # for one trial, where other workers begin to try the same meanwhile


class Resumed(Protocol):
    """Where trials go on that were begun before."""

    def load(self, number: int) -> Checkpoint | None:
        """The checkpoint of a trial; None without any."""


class NothingResumed:
    """Of trials that keep what they need themselves, or nothing."""

    def load(self, number: int) -> None:
        """None."""


class TrialSource:
    """Trials for one worker.

    Args:
        queue: of the stage.
        writer: renews leases.
        checkpoints: of the stage.
        plan: of the stage.
        mirror: what the sampler sees; None if nothing is proposed.
        insist: asks the database until it answers.
        metric: what counts.
        continued: gives the state of an earlier stage's trial with which one begins, if it begins with any.
    """

    def __init__(
        self,
        queue: Queue,
        writer: Writer,
        checkpoints: Resumed,
        plan: StagePlan,
        mirror: Mirror | None,
        insist: Callable[[Callable[[], Any]], Any],
        metric: Metric = ACCURACY,
        continued: Callable[[Lease], Checkpoint | None] = lambda _lease: None,
    ) -> None:
        self._metric, self._continued = metric, continued
        self._queue, self._writer, self._checkpoints = queue, writer, checkpoints
        self._plan, self._mirror, self._insist = plan, mirror, insist
        # Where sampler or pruner learn from packs, these are as wide as was said.
        self._even_out = None if needs_mirror(plan.settings) or plan.settings.has_rungs else plan.settings.epochs

    def take_trials(self, held: dict[int, HeldTrial], width: int) -> None:
        """Put the next trials into `held`, as many as a pack has; none if none wait.

        Those that were begun before come with the checkpoints from which they go on.
        """
        self._hold(held, self._lease(width))

    def _lease(self, width: int) -> Sequence[Lease]:
        leases: list[Lease] = self._insist(lambda: self._queue.take(width, self._even_out))
        return leases

    def _hold(self, held: dict[int, HeldTrial], leases: Sequence[Lease]) -> None:
        # At once: whatever happens, they are given back.
        held |= {lease.number: HeldTrial(lease, until=stop_of(lease.attrs), metric=self._metric) for lease in leases}
        self._writer.hold(leases)
        for lease in leases:
            found = self._checkpoints.load(lease.number) if lease.attempt > 1 else None
            held[lease.number].checkpoint = found or self._continued(lease)

    def propose_params(self, held: dict[int, HeldTrial], mine: Collection[int]) -> None:
        """Hyperparameters for trials that have none yet, from the sampler, which learns of all but the worker's."""
        if (mirror := self._mirror) is None:
            return
        self._learn(mirror, mine)
        proposed = []
        for number, trial in held.items():
            if trial.lease.params:
                mirror.adopt(number, trial.lease.params)
            elif self._plan.settings.sampler == "gp":
                self._propose_apart(mirror, trial, mine)
            else:
                trial.lease = replace(trial.lease, params=mirror.propose(number))
                proposed.append((trial.lease, trial.lease.params))
        if proposed:
            self._insist(lambda: self._queue.set_params(proposed, self._plan.config.space))

    def _learn(self, mirror: Mirror, mine: Collection[int]) -> set[int]:
        """What has begun since; the numbers of the trials whose hyperparameters are known then."""
        first = mirror.first_open
        rows = self._insist(lambda: read_trials(self._queue.db, self._queue.study, BEGUN, first_number=first))
        mirror.learn(rows, mine=mine)
        return {row.number for row in rows if row.params}

    def _propose_apart(self, mirror: Mirror, trial: HeldTrial, mine: Collection[int]) -> None:
        """Of a Gaussian process, which proposes what no other worker has begun to try meanwhile.

        Its proposal is the one best place, and takes a while. Workers that begin together would all try that place, as
        none knows of the others: so who comes second proposes again, knowing of the first one. Each trial of a pack is
        written before the next one is proposed for, so that packs that begin together know of each other all along.
        """
        lease = trial.lease
        for tries_left in reversed(range(MOST_PROPOSALS)):
            known = self._learn(mirror, mine)
            params = mirror.propose(lease.number)
            choose = self._unless_tried(params, known if tries_left else None)
            chosen = self._insist(partial(self._queue.choose_params, lease, choose, mirror.first_open))
            if chosen is not None or not tries_left:
                break
            mirror.withdraw(lease.number)
        trial.lease = chosen if chosen is not None else replace(lease, params=params)

    def _unless_tried(self, params: Mapping[str, Any], known: Collection[int] | None) -> ParamChooser:
        """Gives a trial these hyperparameters, but where one tries the same that was not known; None: in any case."""
        space = self._plan.config.space

        def choose(rows: Sequence[TrialRow]) -> ChosenParams | None:
            others = (row for row in rows if known is not None and row.number not in known)
            return None if any(try_the_same(space, params, o.params) for o in others) else ChosenParams(params, space)

        return choose

    def wait_for_others(self) -> bool:
        """Whether trials are still in other workers' hands; waits until one of their leases may have run out."""
        standing = self._queue.standing()
        if standing.num_waiting:
            return True
        if not standing.num_running or standing.seconds_to_expiry is None:
            return False
        time.sleep(min(max(standing.seconds_to_expiry, 0.05), 0.2))
        self._queue.release_dead()
        return True


def packs_of(config: StudyConfig, held: Mapping[int, HeldTrial]) -> list[tuple[StudyConfig, list[int]]]:
    """Which trials train together: those of one structure and one epoch."""
    packs = []
    for shared, members in group(config, [TrialSpec(n, t.lease.params) for n, t in held.items()]):
        by_epoch: dict[int, list[int]] = {}
        for spec in members:
            checkpoint = held[spec.number].checkpoint
            by_epoch.setdefault(checkpoint.snapshot.epoch if checkpoint else 0, []).append(spec.number)
        packs += [(shared, numbers) for numbers in by_epoch.values()]
    return packs
