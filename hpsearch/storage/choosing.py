"""A queue whose trials train until an epoch, and are asked there: who goes on is chosen from how all of them stand.

    state      lease (worker, attempt, expires_at)   attribute RUNG                   got there by
    WAITING    none                                  none                             create_stage: new
    RUNNING    (w, a, t)                             until u, not paused              take_chosen: may train until u
    WAITING    (none, a, none)                       until u, not paused              release: w's reservation stays
    RUNNING    (none, a, none)                       until = the epochs done, paused  pause: waits to be promoted

Choosing and closing are one transaction each, in which the study's row is locked: no two workers choose at a time, so
epochs are reserved once. All else goes as in any queue. Attempts count on when a trial is promoted, as they fence off
earlier workers; how many of them there were before the pause is kept, so that those since can be told, and how many of
these were lost, which pauses would hide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from hpsearch.results import Direction, goodness
from hpsearch.storage.leases import Lease, extend, forget, held
from hpsearch.storage.queue import Queue, utc_now
from hpsearch.storage.queued_trials import (
    RUNG,
    QueuedTrial,
    kept_attempts,
    paused_attempts,
    read_pruned,
    read_queue,
    read_standing,
)
from hpsearch.storage.rows import attr_rows
from hpsearch.storage.tables import (
    hpsearch_leases,
    trial_params,
    trial_user_attributes,
    trial_values,
    trials,
    upsert,
)

Chooser = Callable[[Sequence[QueuedTrial]], Mapping[int, int]]
"""From how all trials stand to some of their numbers, each with the epoch until which it may train."""


@dataclass(frozen=True, slots=True)
class GoingOn:
    """What was decided of trials at their stops."""

    until: Mapping[int, int]
    """By number of those that go on."""
    kept: Collection[int]
    """Numbers of those that are still this worker's, whether they go on or not."""
    best: float
    """Goodness of the best value of a trial that is complete, or trains on; -inf without one."""


class RungQueue(Queue):
    """One worker's view of a study whose trials are asked at rungs."""

    def take_chosen(self, choose: Chooser) -> list[Lease]:
        """Lease the trials that `choose` names; their attributes say until when they may train.

        What an earlier attempt recorded is removed, but not of a trial that is promoted.
        """
        with self.db.write() as connection:
            return self._take(connection, self._chosen(connection, choose))

    def go_on(self, leases: Sequence[Lease], choose: Chooser, direction: Direction) -> GoingOn:
        """Ask `choose` which of these trials, at their stops, may train on; reserve it, and renew their leases."""
        with self.db.write() as connection:
            self._lock_study(connection)
            kept = {lease.number: lease for lease in held(connection, self.worker, leases)}
            standing = self._read_queue(connection)
            until = {number: stop for number, stop in choose(standing).items() if number in kept}
            _write_rungs(
                connection,
                {
                    kept[number].trial_id: {"until": stop, **kept_attempts(kept[number].attrs)}
                    for number, stop in until.items()
                },
            )
            extend(connection, [lease.trial_id for lease in kept.values()], self._expiry)
        asking = {lease.number for lease in leases}
        on = [t for t in standing if t.state == "held" and (t.number in until or t.number not in asking)]
        values = [goodness(trial.value, direction) for trial in standing if trial.is_complete]
        values += [trial.best(direction) for trial in on]
        return GoingOn(until, kept.keys(), max(values, default=-math.inf))

    def pause(self, endings: Sequence[tuple[Lease, int, Mapping[str, Any]]]) -> None:
        """Let trials wait after the epochs that they have done, with the attributes for the case that they end there.

        A second time changes nothing.
        """
        with self.db.write() as connection:
            ids = held(connection, self.worker, [lease for lease, _, _ in endings])
            rungs = {
                ids[lease]: {"until": epoch, "paused": True, **paused_attempts(lease), "ending": dict(ending)}
                for lease, epoch, ending in endings
                if lease in ids
            }
            gone = sa.update(hpsearch_leases).where(hpsearch_leases.c.trial_id.in_(list(rungs)))
            connection.execute(gone.values(worker=None, expires_at=None))
            _write_rungs(connection, rungs)

    def close(
        self,
        choose: Chooser,
        keep: Callable[[Sequence[QueuedTrial]], int | None],
        direction: Direction,
        left_out: Mapping[str, Any],
        complete: Callable[[Sequence[QueuedTrial], Mapping[int, Mapping[str, Any]]], int | None],
    ) -> Closing:
        """End the stage if nobody has anything left to train: those that wait are PRUNED, those never begun go.

        First, the trial that `keep` names is leased once more, to be ended by whoever gets it, from where it stands.
        Those never begun that have one of a higher number, of another structure, stay, PRUNED with the attributes
        `left_out`: numbers without gaps are what Optuna counts on as it gives a new trial its number.

        Last, the trial that `complete` names, by all of them and the attributes of those that are PRUNED, is COMPLETE.
        """
        with self.db.write() as connection:
            self._lock_study(connection)
            standing = self._read_queue(connection)
            if any(trial.state in ("free", "held") for trial in standing) or choose(standing):
                return Closing(is_over=False)
            if (number := keep(standing)) is not None:
                chosen = {number: next(trial.done for trial in standing if trial.number == number)}
                return Closing(is_over=False, last=self._take(connection, (standing, chosen)))
            paused = [trial for trial in standing if trial.state == "paused"]
            self._end(connection, paused, direction)
            last = max((trial.number for trial in standing if trial.state != "new"), default=-1)
            new = [trial for trial in standing if trial.state == "new"]
            self._end(connection, [replace(trial, ending=left_out) for trial in new if trial.number < last], direction)
            unbegun = [trial.trial_id for trial in new if trial.number > last]
            for table in (trial_params, trial_user_attributes, trials):
                connection.execute(sa.delete(table).where(table.c.trial_id.in_(unbegun)))
            if (number := complete(standing, read_pruned(connection, self.study.study_id))) is not None:
                named = (trials.c.study_id == self.study.study_id) & (trials.c.number == number)
                connection.execute(sa.update(trials).where(named).values(state="COMPLETE"))
        return Closing(is_over=True, ended=[trial.number for trial in paused])

    def _end(self, connection: sa.Connection, paused: Sequence[QueuedTrial], direction: Direction) -> None:
        ids = [trial.trial_id for trial in paused]
        values = [
            {"trial_id": trial.trial_id, "objective": 0, "value": best, "value_type": "FINITE"}
            for trial in paused
            if math.isfinite(best := trial.best(direction) * (1 if direction == "maximize" else -1))
        ]
        upsert(connection, trial_values, ["trial_id", "objective"], values)
        attrs = [{"trial_id": trial.trial_id, **row} for trial in paused for row in attr_rows(trial.ending)]
        upsert(connection, trial_user_attributes, ["trial_id", "key"], attrs)
        _write_rungs(connection, {t.trial_id: {"until": t.done, **t.attempts} for t in paused})
        ended = sa.update(trials).where(trials.c.trial_id.in_(ids))
        started = sa.func.coalesce(trials.c.datetime_start, utc_now())
        connection.execute(ended.values(state="PRUNED", datetime_start=started, datetime_complete=utc_now()))

    def _chosen(self, connection: sa.Connection, choose: Chooser) -> tuple[Sequence[QueuedTrial], Mapping[int, int]]:
        self._lock_study(connection)
        standing = self._read_queue(connection)
        return standing, choose(standing)

    def _take(self, connection: sa.Connection, found: tuple[Sequence[QueuedTrial], Mapping[int, int]]) -> list[Lease]:
        standing, chosen = found
        wanted = {trial.trial_id: trial for trial in standing if trial.number in chosen}
        leases = self._lock(connection, wanted)
        if not leases:
            return []
        rungs = {x: {"until": chosen[x.number], **wanted[x.trial_id].attempts} for x in leases}
        _write_rungs(connection, {lease.trial_id: rung for lease, rung in rungs.items()})
        forget(connection, [x.trial_id for x in leases if wanted[x.trial_id].state != "paused"])
        return self._lease(connection, leases, sa.func.coalesce(trials.c.datetime_start, utc_now()))

    def _lock(self, connection: sa.Connection, wanted: Mapping[int, QueuedTrial]) -> list[Lease]:
        """Lock those trials that are still as they were, with their next attempts."""
        rows = sa.select(trials.c.trial_id).where(trials.c.trial_id.in_(list(wanted))).order_by(trials.c.trial_id)
        ids = [*connection.scalars(rows.with_for_update(key_share=True, skip_locked=True))]
        now = {trial.trial_id: trial for trial in read_standing(connection, self.db.now, trials.c.trial_id.in_(ids))}
        attempts = sa.select(hpsearch_leases.c.trial_id, hpsearch_leases.c.attempt)
        leased = connection.execute(attempts.where(hpsearch_leases.c.trial_id.in_(ids)))
        begun = {row.trial_id: row.attempt for row in leased}
        return [
            Lease(trial_id, wanted[trial_id].number, begun.get(trial_id, 0) + 1)
            for trial_id in ids
            if now[trial_id].state == wanted[trial_id].state
        ]

    def _read_queue(self, connection: sa.Connection) -> list[QueuedTrial]:
        return read_queue(connection, self.db.now, self.study.study_id)


@dataclass(frozen=True, slots=True)
class Closing:
    """What came of closing a stage."""

    is_over: bool
    """Whether nothing is left to do."""
    ended: Sequence[int] = ()
    """Numbers of the trials that waited and were ended."""
    last: Sequence[Lease] = ()
    """A trial to be ended by this worker, from where it stands."""


def _write_rungs(connection: sa.Connection, rungs: Mapping[int, Mapping[str, Any]]) -> None:
    rows = [{"trial_id": trial_id, **row} for trial_id, rung in rungs.items() for row in attr_rows({RUNG: rung})]
    upsert(connection, trial_user_attributes, ["trial_id", "key"], rows)
