"""The queue: the study itself, whose trials wait, are leased by workers, and are finished, each exactly once.

    state      lease (worker, attempt, expires_at)   got there by
    WAITING    none                                  create_stage
    WAITING    (none, a, none)                       release: was begun `a` times, starts over
    RUNNING    (w, a, t)                             take: attempt a is w's until t; renew and record move t
    RUNNING    none, or (none, a, none)              another program, which alone may finish it; never taken
    finished   (w, a, none)                          finish: attempt a of w is the one that counts
    finished   any other                             another program

A lease that ran out stays its worker's until someone takes the trial, so a short silence costs nothing. Every write
carries worker and attempt (a fencing token) and is left out if they are no longer those of the lease: a worker that
was away too long cannot touch a trial that has gone to another.

Each call is one transaction, and may be repeated when the connection broke and it is not known whether it arrived; at
worst a repeated `take` leaves leases to run out. The times of leases are on the database's clock, those of trials
(start, end), which nothing depends on, are on the worker's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from hpsearch.config import Range
from hpsearch.results import EpochResult
from hpsearch.storage.database import Database
from hpsearch.storage.leases import Lease, extend, fence, forget, give_back, held, lock_free
from hpsearch.storage.params import ChosenParams, ParamChooser, read_attrs, read_params, write_params
from hpsearch.storage.rows import StudyRow, attr_rows, param_rows, to_stored
from hpsearch.storage.shares import Shared, even_share
from hpsearch.storage.studies import trials_seen
from hpsearch.storage.tables import (
    FINISHED,
    hpsearch_epochs,
    hpsearch_leases,
    studies,
    trial_intermediate_values,
    trial_params,
    trial_user_attributes,
    trial_values,
    trials,
    upsert,
)
from hpsearch.storage.workers import is_dead, is_of_this_host

LEASE_SECONDS = 15.0  # longest silence before another worker may take over
EPOCH_COLUMNS = [column.name for column in hpsearch_epochs.columns if column.name != "trial_id"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended. `value` is finite, and there for COMPLETE.

    `last` is an intermediate value (step, value) to write unless that step has one: the epoch in which a trial
    exploded never reported.
    """

    lease: Lease
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    value: float | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    last: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        assert self.value is not None or self.state != "COMPLETE", "a complete trial has a value"
        assert self.value is None or math.isfinite(self.value), f"a trial's value is finite, but got {self.value=}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a study is. `seconds_to_expiry`: of the lease that runs out first; 0 if one has, None without any."""

    num_waiting: int
    num_running: int
    num_finished: int
    seconds_to_expiry: float | None


class Queue:
    """One worker's view of the trials of one study."""

    def __init__(self, db: Database, study: StudyRow, worker: str, lease_seconds: float = LEASE_SECONDS) -> None:
        self.db = db
        self.study = study
        self.worker = worker
        self.lease_seconds = lease_seconds

    @property
    def _expiry(self) -> sa.ColumnElement[float]:
        return self.db.now + self.lease_seconds

    def take(self, limit: int, even_out: int | None = None) -> list[Lease]:
        """Lease up to `limit` trials that wait or whose lease ran out, lowest numbers first, all of one structure.

        With `even_out`, the epochs of a trial, it is fewer where that lets all workers end at about the same time.

        What an earlier attempt recorded is removed, its hyperparameters are kept. An empty list does not mean that
        the study is done: others may hold the rest, or be taking it at this moment; ask `standing`.
        """
        if limit < 1:
            return []
        with self.db.write() as connection:
            study = Shared(connection, self.study.study_id, self.worker, self.db.now)
            if even_out is not None and (workers := study.num_workers()) > 1:
                limit = even_share(study.num_waiting(), study.left_elsewhere(even_out), workers, limit)
            leases = lock_free(connection, self.study.study_id, self.db.now, limit)
            ids = [lease.trial_id for lease in leases]
            if not ids:
                return []
            forget(connection, ids)
            return self._lease(connection, leases, utc_now())

    def _lease(self, connection: sa.Connection, leases: Sequence[Lease], started: Any) -> list[Lease]:
        """Make these this worker's, with what is known of their trials, by number."""
        ids = [lease.trial_id for lease in leases]
        connection.execute(
            sa.update(trials).where(trials.c.trial_id.in_(ids)).values(state="RUNNING", datetime_start=started)
        )
        rows = [{"trial_id": x.trial_id, "worker": self.worker, "attempt": x.attempt} for x in leases]
        upsert(connection, hpsearch_leases, ["trial_id"], rows, expires_at=self._expiry)
        params, attrs = read_params(connection, ids), read_attrs(connection, ids)
        full = [replace(lease, params=params[lease.trial_id], attrs=attrs[lease.trial_id]) for lease in leases]
        return sorted(full, key=lambda lease: lease.number)

    def set_params(
        self,
        drawn: Sequence[tuple[Lease, Mapping[str, Any]]],
        ranges: Mapping[str, Range],
    ) -> list[Lease]:
        """Write hyperparameters drawn when the trials were taken; the leases still held, with their params."""
        with self.db.write() as connection:
            return write_params(connection, self.worker, drawn, ranges)

    def choose_params(self, lease: Lease, choose: ParamChooser, first_number: int = 0) -> Lease | None:
        """Write what `choose` gives a trial, from how the others stand; the lease with it, None where it gives nothing.

        The study's row is locked meanwhile, so whoever chooses sees what all before have chosen. A trial that was given
        some already keeps them. `choose` sees the trials from `first_number` on.
        """
        with self.db.write() as connection:
            self._lock_study(connection)
            of_study = (trials.c.study_id == self.study.study_id) & (trials.c.number >= first_number)
            rows = {row.number: row for row in trials_seen(connection, of_study)}
            if (own := rows.pop(lease.number, None)) is None:  # somebody has deleted the study
                return None
            if own.params:
                chosen = ChosenParams(own.params, own.ranges)
            elif (found := choose([*rows.values()])) is not None:
                chosen = found
            else:
                return None
            kept = write_params(connection, self.worker, [(lease, chosen.params)], chosen.ranges, chosen.attrs)
        return replace(kept[0], attrs={**lease.attrs, **own.attrs, **chosen.attrs}) if kept else None

    def _lock_study(self, connection: sa.Connection) -> None:
        """Nobody else chooses until the end of the transaction. On SQLite, nobody else writes anyway."""
        study = sa.select(studies.c.study_id).where(studies.c.study_id == self.study.study_id)
        connection.execute(study.with_for_update(key_share=True))

    def add_params(self, lease: Lease, params: Mapping[str, Any], ranges: Mapping[str, Range]) -> bool:
        """Write more hyperparameters of a trial that is held; whether it still is."""
        with self.db.write() as connection:
            ids = held(connection, self.worker, [lease])
            rows = param_rows(((trial_id, params) for trial_id in ids.values()), ranges)
            upsert(connection, trial_params, ["trial_id", "param_name"], rows)
        return bool(ids)

    def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Hold on for another `lease_seconds`; the leases still held, the lost ones are missing."""
        with self.db.write() as connection:
            ids = held(connection, self.worker, leases)
            extend(connection, ids.values(), self._expiry)
        return list(ids)

    def record(self, results: Sequence[tuple[Lease, EpochResult]]) -> list[Lease]:
        """Write the epochs of a pack and renew its leases; the leases that were lost, whose epochs are not written.

        The intermediate value of step `epoch` is what counts, which our own table does not repeat; where that is all
        that is known, it has no row there.
        """
        assert all(lease.number == result.number for lease, result in results)
        with self.db.write() as connection:
            ids = held(connection, self.worker, [lease for lease, _ in results])
            kept = [(ids[lease], result) for lease, result in results if lease in ids]
            upsert(
                connection,
                hpsearch_epochs,
                ["trial_id", "epoch"],
                [
                    {"trial_id": i, **{name: getattr(result, name) for name in EPOCH_COLUMNS}}
                    for i, result in kept
                    if not result.is_bare
                ],
            )
            intermediate = [_intermediate_row(i, result.epoch, result.val_score) for i, result in kept]
            upsert(connection, trial_intermediate_values, ["trial_id", "step"], intermediate)
            extend(connection, ids.values(), self._expiry)
        return [lease for lease, _ in results if lease not in ids]

    def finish(self, outcomes: Sequence[Outcome]) -> list[Lease]:
        """End trials; the leases that were lost, whose outcomes are not written. A second time changes nothing."""
        with self.db.write() as connection:
            states = fence(connection, self.worker, [outcome.lease for outcome in outcomes])
            ending = [outcome for outcome in outcomes if states.get(outcome.lease) == "RUNNING"]
            values = [_value_row(outcome) for outcome in ending if outcome.value is not None]
            upsert(connection, trial_values, ["trial_id", "objective"], values)
            attrs = [{"trial_id": o.lease.trial_id, **row} for o in ending for row in attr_rows(o.attrs)]
            upsert(connection, trial_user_attributes, ["trial_id", "key"], attrs)
            last = [_intermediate_row(o.lease.trial_id, *o.last) for o in ending if o.last is not None]
            upsert(connection, trial_intermediate_values, ["trial_id", "step"], last, replace=False)
            for state in FINISHED:
                ids = [outcome.lease.trial_id for outcome in ending if outcome.state == state]
                if ids:
                    ended = sa.update(trials).where(trials.c.trial_id.in_(ids))
                    connection.execute(ended.values(state=state, datetime_complete=utc_now()))
                    extend(connection, ids, None)
        return [outcome.lease for outcome in outcomes if outcome.lease not in states]

    def release(self, leases: Sequence[Lease]) -> None:
        """Give trials back at once: they wait again, and what this attempt recorded is removed."""
        with self.db.write() as connection:
            give_back(connection, held(connection, self.worker, leases).values())

    def release_dead(self) -> list[int]:
        """Give back the trials of workers on this host whose process is gone; their numbers.

        Those of a process that is stopped inside a transaction are freed for others, too.
        """
        self.db.end_stuck_transactions()
        running = (
            sa.select(hpsearch_leases.c.worker, trials.c.trial_id, trials.c.number, hpsearch_leases.c.attempt)
            .join(trials, trials.c.trial_id == hpsearch_leases.c.trial_id)
            .where(trials.c.study_id == self.study.study_id, trials.c.state == "RUNNING")
        )
        left: defaultdict[str, list[Lease]] = defaultdict(list)
        with self.db.read() as connection:
            for worker, trial_id, number, attempt in connection.execute(running):
                left[worker or ""].append(Lease(trial_id, number, attempt))
        numbers: list[int] = []
        for worker in filter(is_dead, left):
            with self.db.write() as connection:
                ids = held(connection, worker, left[worker])
                give_back(connection, ids.values())
            numbers += [lease.number for lease in ids]
        return sorted(numbers)

    def runs_elsewhere(self) -> bool:
        """Whether workers of other hosts hold trials: their deaths are known when their leases run out."""
        query = (
            sa.select(hpsearch_leases.c.worker)
            .join(trials, trials.c.trial_id == hpsearch_leases.c.trial_id)
            .where(trials.c.study_id == self.study.study_id, trials.c.state == "RUNNING")
        )
        with self.db.read() as connection:
            return any(not is_of_this_host(worker or "") for (worker,) in connection.execute(query))

    def standing(self) -> Standing:
        """How many trials wait, run and are finished, and when the next lease runs out."""
        state = trials.c.state
        query = (
            sa.select(
                sa.func.count(sa.case((state == "WAITING", 1))),
                sa.func.count(sa.case((state == "RUNNING", 1))),
                sa.func.count(sa.case((state.in_(FINISHED), 1))),
                sa.func.min(sa.case((state == "RUNNING", hpsearch_leases.c.expires_at))) - self.db.now,
            )
            .outerjoin_from(trials, hpsearch_leases, trials.c.trial_id == hpsearch_leases.c.trial_id)
            .where(trials.c.study_id == self.study.study_id)
        )
        with self.db.read() as connection:
            waiting, running, finished, seconds = connection.execute(query).one()
        return Standing(waiting, running, finished, None if seconds is None else max(0.0, seconds))


def _intermediate_row(trial_id: int, step: int, value: float) -> dict[str, Any]:
    number, kind = to_stored(value)
    return {"trial_id": trial_id, "step": step, "intermediate_value": number, "intermediate_value_type": kind}


def _value_row(outcome: Outcome) -> dict[str, Any]:
    return {"trial_id": outcome.lease.trial_id, "objective": 0, "value": outcome.value, "value_type": "FINITE"}


def utc_now() -> datetime:
    """As Optuna keeps times: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
