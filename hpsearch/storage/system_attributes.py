"""Optuna's system attributes of a study, where its dashboard keeps panels, notes and artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from hpsearch.storage.database import Database
from hpsearch.storage.rows import StudyRow, attr_rows
from hpsearch.storage.tables import studies, study_user_attributes, upsert

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


@dataclass(frozen=True, slots=True)
class AttrChange:
    """Attributes to set: user attributes, plain JSON, and system attributes."""

    user: Mapping[str, Any] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)


def change_attrs(db: Database, study: StudyRow, key: str, decide: Callable[[Any], AttrChange | None]) -> bool:
    """Set attributes that depend on the user attribute `key` as it is now; whether any were set.

    `decide` gets its value, None if there is none. Until what it returns is written, no other call decides.
    """
    a = study_user_attributes.c
    with db.write() as connection:
        # SQLite has one writer at a time; on Postgres others wait here, those that only refer to the study do not.
        locked = sa.select(studies.c.study_id).where(studies.c.study_id == study.study_id)
        connection.execute(locked.with_for_update(key_share=True))
        text = connection.scalar(sa.select(a.value_json).where(a.study_id == study.study_id, a.key == key))
        change = decide(None if text is None else json.loads(text))
        if change is None:
            return False
        for table, attrs in ((study_user_attributes, change.user), (_attributes, change.system)):
            rows = [{"study_id": study.study_id, **row} for row in attr_rows(attrs)]
            upsert(connection, table, ["study_id", "key"], rows)  # type: ignore[arg-type]
    return True
