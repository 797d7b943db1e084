"""hpsearch's figures and verdicts inside optuna-dashboard: panels and a note of each study, kept in the storage.

Everything here goes along with each refresh of the page, every 2 to 10 seconds, so it is kept small.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import optuna
import optuna_dashboard
import plotly.graph_objects as go

from hpsearch.analysis.lineage import advise
from hpsearch.analysis.records import stage_record
from hpsearch.dashboard.note import joined, study_note
from hpsearch.errors import HpsearchError
from hpsearch.logs import get_logger
from hpsearch.report import style
from hpsearch.report.figures.explosions import _explosions_info, plot_explosions
from hpsearch.report.figures.gap import GapInfo, _gap_info, plot_gap
from hpsearch.report.figures.landscape import LandscapeInfo, _landscape_info, plot_landscape
from hpsearch.report.figures.ranges import _ranges_info, plot_ranges
from hpsearch.report.figures.updates import UpdatesInfo, _updates_info, plot_updates
from hpsearch.report.stage import StageData, read_chain
from hpsearch.storage import Database, StudyOverview, read_overview
from hpsearch.storage.system_attributes import read_system_attrs, write_system_attrs

MAX_PANELS_BYTES = 200_000  # of a study; what is larger is left out
MAX_STUDIES = 20  # the latest ones are kept fresh while the dashboard runs
FRESH_SECONDS = 5.0  # between two looks at whether a study has moved on
HANDOVER_SECONDS = 0.02  # for those who wait for the lock: it goes to whoever asks first after its release
MAX_POINTS = 300  # trials in one figure; of more, a sample that holds the best one
MAX_RANGES = 3  # hyperparameters whose ranges are drawn
TITLE_HEIGHT = 56  # pixels


logger = get_logger(__name__)


def refresh_panels(db: Database, name: str) -> bool:
    """Bring the panels, the note and the kept weights of a study up to date; says whether that was possible.

    Failures are logged and nothing else: a search does not fail for its figures.
    """
    try:
        _refresh(db, name)
    except Exception as error:
        logger.warning("the dashboard's panels of %r are not up to date: %s", name, str(error).partition("\n")[0])
        logger.debug("why", exc_info=error)
        return False
    return True


def keep_fresh(db: Database, stop: threading.Event, one_at_a_time: threading.Lock) -> None:
    """Refresh the latest studies that hpsearch made whenever their trials have moved on, until `stop` is set.

    Studies of other programs are left as they are. Takes a tenth of one core at most, and holds `one_at_a_time` for
    each study: beside it, a page of 5,000 trials would take three times as long to open.
    """
    seen: dict[int, tuple[Any, ...]] = {}
    while not stop.is_set():
        start = time.monotonic()
        try:
            for row in _latest(db):
                standing = (row.counts, row.num_paused, row.best)
                if seen.get(row.study.study_id) != standing and not stop.is_set():
                    seen[row.study.study_id] = standing
                    with one_at_a_time:
                        refresh_panels(db, row.study.name)
                    time.sleep(HANDOVER_SECONDS)
        except HpsearchError as error:  # the database is away, as it may be for a while
            logger.info("%s", error)
        stop.wait(max(FRESH_SECONDS, 10 * (time.monotonic() - start)))


def _latest(db: Database) -> list[StudyOverview]:
    ours = [row for row in read_overview(db) if stage_record(row.study).kind is not None]
    return ours[: -MAX_STUDIES - 1 : -1]


def _refresh(db: Database, name: str) -> None:
    chain = read_chain(db, name)
    evidence = chain[-1].evidence
    recorder = _Recorder(read_system_attrs(db, evidence.study))
    study = _study_of(recorder, evidence.study.study_id)
    for id_, figure in drawn(chain):
        optuna_dashboard.save_plotly_graph_object(study, figure, graph_object_id=id_)
    old = optuna_dashboard.get_note(study)
    if (note := joined(study_note(evidence, chain[-1].diagnoses, advise(db, evidence)), old)) != old:
        optuna_dashboard.save_note(study, note)
    changed = {key: value for key, value in recorder.new.items() if recorder.stored.get(key) != value}
    if changed:
        write_system_attrs(db, evidence.study, changed)


def drawn(chain: list[StageData]) -> Iterator[tuple[str, go.Figure]]:
    """The panels that have something to show, by id, with their titles; together at most MAX_PANELS_BYTES."""
    left = MAX_PANELS_BYTES
    for name, draw in PANELS.items():
        for number, (title, figure) in enumerate(draw(chain)):
            figure.update_layout(title={"text": title, "x": 0.02, "y": 0.97}, height=None)
            figure.update_layout(margin_t=(figure.layout.margin.t or 0) + TITLE_HEIGHT)
            if (size := len(figure.to_json())) > left:
                logger.info("the panel %s is left out: %d bytes", name, size)
                continue
            left -= size
            yield f"hpsearch-{name}-{number}", figure


Titled = tuple[str, go.Figure]


def _ranges(chain: list[StageData]) -> Iterator[Titled]:
    for info in _ranges_info(chain)[:MAX_RANGES]:
        yield f"{style.as_text(info.param)}: the range, stage by stage", plot_ranges(info)


def _landscape(chain: list[StageData]) -> Iterator[Titled]:
    if info := _landscape_info(chain[-1]):
        yield "The trials, by value", plot_landscape(_thinned(info))


def _explosions(chain: list[StageData]) -> Iterator[Titled]:
    if info := _explosions_info(chain[-1]):
        yield "Where trials explode", plot_explosions(info)


def _gap(chain: list[StageData]) -> Iterator[Titled]:
    if info := _gap_info(chain[-1]):
        yield "Overfitting: below the diagonal", plot_gap(_thinned(info))


def _updates(chain: list[StageData]) -> Iterator[Titled]:
    if info := _updates_info(chain[-1]):
        yield "The size of the updates", plot_updates(_thinned(info))


Points = TypeVar("Points", LandscapeInfo, GapInfo, UpdatesInfo)


def _thinned(info: Points) -> Points:
    every = -(-len(info.points) // MAX_POINTS)
    kept = tuple(p for place, p in enumerate(info.points) if place % every == 0 or p.number == info.best)
    return replace(info, points=kept)


PANELS: dict[str, Callable[[list[StageData]], Iterator[Titled]]] = {
    "ranges": _ranges,
    "landscape": _landscape,
    "explosions": _explosions,
    "gap": _gap,
    "updates": _updates,
}
"""What is drawn, by name, of the stages that led to a study (itself last): figures with their titles."""


class _Recorder:
    """Stands for a storage of one study and keeps what is set in it, to be written in one transaction.

    One attribute of 2 kB at a time would cost a transaction each, and a page that reads in between would find half a
    figure.
    """

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.stored, self.new = stored, dict[str, Any]()

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As Optuna's storages."""
        self.new[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As Optuna's storages."""
        return {**self.stored, **self.new}


def _study_of(recorder: _Recorder, study_id: int) -> optuna.Study:
    study = optuna.Study.__new__(optuna.Study)
    study._study_id, study._storage = study_id, recorder  # type: ignore[assignment]
    return study
