"""The tables: the part of Optuna's schema that we use, and our own.

Optuna's classes would bring Optuna with them (0.5 s of imports) and its sessions cost tens of milliseconds a trial,
so its tables are declared a second time, for SQLAlchemy Core; a test compares the two declarations. We never create
these tables, Optuna does.

Rows that belong to a trial go with it, whoever deletes it: by ON DELETE CASCADE on Postgres; on SQLite by triggers,
because SQLite heeds foreign keys only in connections that ask for it, and gives the id of a deleted trial to the
next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

OPTUNA_SCHEMA = "v3.2.0.a"  # Optuna's name (alembic revision) of the schema declared here
OWN_SCHEMA = 1  # version of our own tables
MAX_NAME_LENGTH = 512  # characters in names of studies, attributes and parameters

FINISHED = ("COMPLETE", "PRUNED", "FAIL")

direction_type = sa.Enum("NOT_SET", "MINIMIZE", "MAXIMIZE", name="studydirection")
state_type = sa.Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")
value_type = sa.Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")
intermediate_type = sa.Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype")


class NanFloat(sa.TypeDecorator[float]):
    """A double that may be nan, kept as NULL, which is what SQLite makes of it anyway."""

    impl = sa.Float(53)
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: sa.Dialect) -> float | None:
        """None for nan."""
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float:
        """The inverse."""
        return math.nan if value is None else value


optuna_metadata = sa.MetaData()
_String = sa.String(MAX_NAME_LENGTH)
_Double = sa.Float(53)


def _study(**kwargs: Any) -> sa.Column[int]:
    return sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.study_id"), **kwargs)


def _trial(**kwargs: Any) -> sa.Column[int]:
    return sa.Column("trial_id", sa.Integer, sa.ForeignKey("trials.trial_id"), **kwargs)


studies = sa.Table(
    "studies",
    optuna_metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("study_name", _String, nullable=False, index=True, unique=True),
)
study_directions = sa.Table(
    "study_directions",
    optuna_metadata,
    sa.Column("study_direction_id", sa.Integer, primary_key=True),
    sa.Column("direction", direction_type, nullable=False),
    _study(nullable=False),
    sa.Column("objective", sa.Integer, nullable=False),
    sa.UniqueConstraint("study_id", "objective"),
)
study_user_attributes = sa.Table(
    "study_user_attributes",
    optuna_metadata,
    sa.Column("study_user_attribute_id", sa.Integer, primary_key=True),
    _study(),
    sa.Column("key", _String),
    sa.Column("value_json", sa.Text),
    sa.UniqueConstraint("study_id", "key"),
)
trials = sa.Table(
    "trials",
    optuna_metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer),
    _study(index=True),
    sa.Column("state", state_type, nullable=False),
    sa.Column("datetime_start", sa.DateTime),  # UTC
    sa.Column("datetime_complete", sa.DateTime),  # UTC
)
trial_user_attributes = sa.Table(
    "trial_user_attributes",
    optuna_metadata,
    sa.Column("trial_user_attribute_id", sa.Integer, primary_key=True),
    _trial(),
    sa.Column("key", _String),
    sa.Column("value_json", sa.Text),
    sa.UniqueConstraint("trial_id", "key"),
)
trial_params = sa.Table(
    "trial_params",
    optuna_metadata,
    sa.Column("param_id", sa.Integer, primary_key=True),
    _trial(),
    sa.Column("param_name", _String),
    sa.Column("param_value", _Double),  # of a choice: the index
    sa.Column("distribution_json", sa.Text),
    sa.UniqueConstraint("trial_id", "param_name"),
)
trial_values = sa.Table(
    "trial_values",
    optuna_metadata,
    sa.Column("trial_value_id", sa.Integer, primary_key=True),
    _trial(nullable=False),
    sa.Column("objective", sa.Integer, nullable=False),
    sa.Column("value", _Double),
    sa.Column("value_type", value_type, nullable=False),
    sa.UniqueConstraint("trial_id", "objective"),
)
trial_intermediate_values = sa.Table(
    "trial_intermediate_values",
    optuna_metadata,
    sa.Column("trial_intermediate_value_id", sa.Integer, primary_key=True),
    _trial(nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("intermediate_value", _Double),
    sa.Column("intermediate_value_type", intermediate_type, nullable=False),
    sa.UniqueConstraint("trial_id", "step"),
)

OPTUNA_TABLES = tuple(optuna_metadata.sorted_tables)

_own = sa.MetaData()


def _own_trial() -> sa.Column[int]:
    reference = sa.ForeignKey(trials.c.trial_id, ondelete="CASCADE")
    return sa.Column("trial_id", sa.Integer, reference, primary_key=True, autoincrement=False)


hpsearch_leases = sa.Table(
    "hpsearch_leases",
    _own,
    _own_trial(),
    sa.Column("worker", sa.String(255)),
    sa.Column("attempt", sa.Integer, nullable=False),  # the first one is 1
    sa.Column("expires_at", _Double),  # Unix time, s, on the database's clock
)
hpsearch_epochs = sa.Table(
    "hpsearch_epochs",
    _own,
    _own_trial(),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cost", NanFloat),
    sa.Column("train_loss", NanFloat),
    sa.Column("train_acc", NanFloat),
    sa.Column("val_loss", NanFloat),
    sa.Column("val_acc", NanFloat),
    sa.Column("update_ratio", NanFloat),
    sa.Column("lr", NanFloat),
)
hpsearch_version = sa.Table(
    "hpsearch_version", _own, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
)


def create_own_tables(connection: sa.Connection) -> None:
    """Our tables in a database that has Optuna's; those that are there stay as they are."""
    _own.create_all(connection)
    if connection.dialect.name == "sqlite":
        for table in (hpsearch_leases, hpsearch_epochs):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS {table.name}_go_with_trial AFTER DELETE ON trials "
                f"BEGIN DELETE FROM {table.name} WHERE trial_id = OLD.trial_id; END"
            )
    upsert(connection, hpsearch_version, ["version"], [{"version": OWN_SCHEMA}])


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    key: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    replace: bool = True,
    **expressions: sa.ColumnElement[Any],
) -> None:
    """Insert rows; what stands under the same `key` is replaced, or else stays as it is.

    `expressions` are columns that the database computes.
    """
    if not rows:
        return
    # Only that of this engine, which has loaded it: the other one would cost a short command a tenth of its time.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_into
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_into  # type: ignore[assignment]
    names = (*rows[0], *expressions)
    insert = insert_into(table).values({**{name: sa.bindparam(name) for name in rows[0]}, **expressions})
    changed = {name: insert.excluded[name] for name in names if name not in key}
    if replace and changed:
        statement = insert.on_conflict_do_update(index_elements=key, set_=changed)
    else:
        statement = insert.on_conflict_do_nothing(index_elements=key)
    connection.execute(statement, [dict(row) for row in rows])
