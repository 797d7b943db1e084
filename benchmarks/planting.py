"""Finished studies of any size, written straight into the tables: what a benchmark of reading needs."""

from __future__ import annotations

import random

import sqlalchemy as sa

from hpsearch.config import FloatRange
from hpsearch.results import EpochResult
from hpsearch.storage import Database, NewTrial, StudyRow, create_stage
from hpsearch.storage.tables import hpsearch_epochs, trial_intermediate_values, trial_values, trials

SPACE = {"lr": FloatRange(1e-5, 1.0, log=True), "reg": FloatRange(1e-5, 1e5, log=True)}
NUM_PER_BATCH = 500  # trials written in one transaction


def plant(db: Database, name: str, num_trials: int, num_epochs: int, num_waiting: int = 0) -> StudyRow:
    """A coarse stage of `num_trials` trials; the last `num_waiting` have not begun."""
    rng = random.Random(0)
    drawn = [{"lr": 10 ** rng.uniform(-5, 0), "reg": 10 ** rng.uniform(-5, 5)} for _ in range(num_trials)]
    config = {"coarse": {"trials": num_trials, "epochs": num_epochs}}
    attrs = {"hpsearch.stage": "coarse", "hpsearch.config": config}
    study = create_stage(db, name, "maximize", attrs, SPACE, [NewTrial(params, {"structure": "x"}) for params in drawn])
    with db.read() as connection:
        query = sa.select(trials.c.number, trials.c.trial_id).where(trials.c.study_id == study.study_id)
        ids = dict(connection.execute(query).tuples().all())
    for start in range(0, num_trials - num_waiting, NUM_PER_BATCH):
        numbers = range(start, min(start + NUM_PER_BATCH, num_trials - num_waiting))
        with db.write() as connection:
            _finish(connection, [(ids[number], number, drawn[number], rng) for number in numbers], num_epochs)
    return study


def _finish(connection: sa.Connection, rows: list, num_epochs: int) -> None:
    values, intermediate, epochs = [], [], []
    for trial_id, number, params, rng in rows:
        best = 0.95 * max(0.1, 1 - abs(rng.gauss(0, 0.05)) - 0.1 * abs(params["lr"] - 0.1))
        for epoch in range(1, num_epochs + 1):
            accuracy = best * (1 - 0.5**epoch)
            intermediate.append((trial_id, epoch, accuracy))
            result = EpochResult(
                number, epoch, 2.3 * 0.8**epoch, 2.2 * 0.8**epoch, accuracy + 0.02, 2.25 * 0.8**epoch, accuracy,
                params["lr"] * 1e-2, params["lr"] * 0.95**epoch,
            )  # fmt: skip
            epochs.append({"trial_id": trial_id, **{k: getattr(result, k) for k in _EPOCH_COLUMNS}})
        values.append((trial_id, best))
    moment = sa.func.now()
    connection.execute(
        sa.update(trials)
        .where(trials.c.trial_id.in_([row[0] for row in rows]))
        .values(state="COMPLETE", datetime_start=moment, datetime_complete=moment)
    )
    connection.execute(
        sa.insert(trial_values),
        [{"trial_id": t, "objective": 0, "value": v, "value_type": "FINITE"} for t, v in values],
    )
    connection.execute(
        sa.insert(trial_intermediate_values),
        [
            {"trial_id": t, "step": e, "intermediate_value": v, "intermediate_value_type": "FINITE"}
            for t, e, v in intermediate
        ],
    )
    connection.execute(sa.insert(hpsearch_epochs), epochs)


_EPOCH_COLUMNS = ("epoch", "cost", "train_loss", "train_acc", "val_loss", "val_acc", "update_ratio", "lr")
