"""Optuna's tables in a database that holds nothing yet, as Optuna would make them: it needs an ORM and alembic, 0.4 s.

Tests hold that nothing is missing, of any engine. Whatever is there already, or another schema than the one declared
here, is Optuna's own affair.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa

from hpsearch.storage.tables import MAX_NAME_LENGTH, OPTUNA_SCHEMA, optuna_metadata

VERSION_OF_ALL = 12  # schema_version, which Optuna has left alone since it named its schemas


def _attributes(kind: str) -> sa.Table:
    return sa.Table(
        f"{kind}_system_attributes",
        optuna_metadata,
        sa.Column(f"{kind}_system_attribute_id", sa.Integer, primary_key=True),
        sa.Column(f"{kind}_id", sa.Integer, sa.ForeignKey(f"{'studies' if kind == 'study' else 'trials'}.{kind}_id")),
        sa.Column("key", sa.String(MAX_NAME_LENGTH)),
        sa.Column("value_json", sa.Text),
        sa.UniqueConstraint(f"{kind}_id", "key"),
    )


study_system_attributes = _attributes("study")
trial_system_attributes = _attributes("trial")
trial_heartbeats = sa.Table(
    "trial_heartbeats",
    optuna_metadata,
    sa.Column("trial_heartbeat_id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.Integer, sa.ForeignKey("trials.trial_id"), nullable=False),
    sa.Column("heartbeat", sa.DateTime, nullable=False),
    sa.UniqueConstraint("trial_id"),
)
version_info = sa.Table(
    "version_info",
    optuna_metadata,
    sa.Column("version_info_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("schema_version", sa.Integer),
    sa.Column("library_version", sa.String(256)),
    sa.CheckConstraint("version_info_id=1"),
)
alembic_version = sa.Table(
    "alembic_version",
    optuna_metadata,
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def tables_of_studies() -> list[sa.Table]:
    """Those whose rows are of a study or a trial, by study_id or trial_id; what refers to others first."""
    tables = reversed(optuna_metadata.sorted_tables)
    return [table for table in tables if not {"study_id", "trial_id"}.isdisjoint(table.c.keys())]


def is_known() -> bool:
    """Whether the installed Optuna has the schema that is declared here, as the names of its upgrades say."""
    spec = find_spec("optuna")  # which does not import it
    package = Path((spec and spec.origin) or "").parent
    upgrades = (package / "storages" / "_rdb" / "alembic" / "versions").glob("v*.py")
    return max((path.stem.rstrip("_") for path in upgrades), default="") == OPTUNA_SCHEMA


def create_optuna_tables(connection: sa.Connection) -> bool:
    """Make them, unless there are any tables, or Optuna has to do it; gives whether that is done."""
    if sa.inspect(connection).get_table_names() or not is_known():
        return False
    optuna_metadata.create_all(connection)
    info = {"version_info_id": 1, "schema_version": VERSION_OF_ALL, "library_version": version("optuna")}
    connection.execute(sa.insert(version_info), info)
    connection.execute(sa.insert(alembic_version), {"version_num": OPTUNA_SCHEMA})
    return True
