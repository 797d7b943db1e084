"""Optuna's system attributes of a study, where its dashboard keeps panels, notes and artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from hpsearch.storage.database import Database
from hpsearch.storage.rows import StudyRow
from hpsearch.storage.studies import attr_rows
from hpsearch.storage.tables import upsert

_attributes = sa.table("study_system_attributes", *map(sa.column, ("study_id", "key", "value_json")))


def read_system_attrs(db: Database, study: StudyRow) -> dict[str, Any]:
    """All system attributes of a study."""
    query = sa.select(_attributes.c.key, _attributes.c.value_json).where(_attributes.c.study_id == study.study_id)
    with db.read() as connection:
        return {key: json.loads(text) for key, text in connection.execute(query)}


def write_system_attrs(db: Database, study: StudyRow, attrs: Mapping[str, Any]) -> None:
    """Set system attributes, all in one transaction: a reader sees none of them new, or all."""
    with db.write() as connection:
        rows = [{"study_id": study.study_id, **row} for row in attr_rows(attrs)]
        upsert(connection, _attributes, ["study_id", "key"], rows)  # type: ignore[arg-type]
