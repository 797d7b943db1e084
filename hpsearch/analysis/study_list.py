"""All studies of a storage, a line each: what `hpsearch status` lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.called_again import repeats_among
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.repeats import Repeats, best_value, by_mean, without_mean
from hpsearch.analysis.study_trials import read_study
from hpsearch.results import Direction
from hpsearch.storage import Database, StudyOverview, count_exploded, read_linked, read_overview


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """How a study stands, of whatever program.

    Attributes:
        study: its name.
        stage: coarse, fine, train, check, ...; None where another program made it.
        source: the study that it came from.
        trials: all of them; `finished` will not run again, and `paused` wait at a rung, in nobody's hands.
        best: the best value of a trial that is complete; None while there is none. Of a stage that called its best
            trials again, or trained them again with other seeds, that of the one with the best mean: see `best_value`.
        metric: what a value is, as in JSON.
        value_name: the same in words.
    """

    study: str
    stage: str | None
    source: str | None
    trials: int
    finished: int
    running: int
    paused: int
    pruned: int
    exploded: int
    failed: int
    best: float | None
    metric: str
    value_name: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        plain = {"from" if key == "source" else key: value for key, value in asdict(self).items()}
        del plain["value_name"]
        return plain


def listed_studies(db: Database) -> list[ListedStudy]:
    """In the order in which they were made; in a few queries, however many trials they have."""
    exploded = count_exploded(db, attributes.REASON, attributes.EXPLODED)
    found, rows = [], read_overview(db)
    records = {row.study.study_id: stage_record(row.study) for row in rows}
    may_call = [study_id for study_id, record in records.items() if record.metric("maximize").is_own]
    calls = read_linked(db, may_call, attributes.AGAIN)
    for row in rows:
        record, total = records[row.study.study_id], sum(row.counts.values())
        again = record.repeats or repeats_among(calls.get(row.study.study_id, []))
        runaway = exploded.get(row.study.study_id, Counter())
        found.append(
            ListedStudy(
                study=row.study.name,
                stage=record.kind,
                source=record.source,
                trials=total,
                finished=total - row.counts.get("WAITING", 0) - row.counts.get("RUNNING", 0),
                running=row.counts.get("RUNNING", 0) - row.num_paused,
                paused=row.num_paused,
                pruned=row.counts.get("PRUNED", 0) - runaway.get("PRUNED", 0),
                exploded=sum(runaway.values()),
                failed=row.counts.get("FAIL", 0),
                best=_best(db, row, again),
                metric=record.metric("maximize").name,
                value_name=record.value_name,
            )
        )
    return found


def _best(db: Database, row: StudyOverview, again: Repeats | None) -> float | None:
    if again is None:
        return row.best
    direction: Direction = "maximize" if row.study.directions[:1] == ("maximize",) else "minimize"
    order = by_mean(again, direction)
    if order and order[0].number in without_mean(order):  # seldom: the best of the others
        best = read_study(db, row.study.name).best
        return best.value if best is not None else None
    return best_value(row.best, order)
