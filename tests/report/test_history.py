"""Tables of what has been done: times and uses of the test set."""

from datetime import UTC, datetime, timedelta

from planted import plant

from hpsearch.analysis import attributes
from hpsearch.analysis.lineage import advise
from hpsearch.config import FloatRange
from hpsearch.dashboard.note import study_note
from hpsearch.report import history
from hpsearch.report.stage import read_stage, trained_seconds
from hpsearch.storage import TrialRow, list_studies, open_database


def test_pauses_are_no_training():
    """Two at a time, one on its own inside of them, an hour of nothing, one more; one waits, one runs."""
    spans = [(0, 40), (10, 60), (20, 30), (3660, 3690), (None, None), (3690, None)]
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = [[begin + timedelta(seconds=s) if s is not None else None for s in span] for span in spans]
    trials = [TrialRow(i, i, "COMPLETE", started=start, completed=end) for i, (start, end) in enumerate(times)]
    assert trained_seconds(reversed(trials)) == 90
    assert trained_seconds([]) == 0


def test_uses_of_the_test_set_are_in_the_order_of_time(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    for name, days in [("a", (1, 4)), ("b", (2, 3))]:
        uses = [{"trial": 0, "mean": 0.5, "interval": [0.4, 0.6], "time": f"2026-01-0{day}T10:00"} for day in days]
        plant(db, name, num_trials=1, **{attributes.TESTS: uses})
    table = history.tests([read_stage(db, name) for name in "ab"], list_studies(db))
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    said = [(row["stage"], row["use of the images"]) for row in rows]
    assert said == [("a", "1"), ("b", "2"), ("b", "3"), ("a", "4")]  # of images that both look at
    assert rows[0]["when (UTC)"] == "2026-01-01 10:00"
    db.close()


def test_ends_of_ranges_are_shown_as_their_values_are(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    ranges = [
        {"param": "batch", "old": [8, 512], "new": [64, 128], "reason": "narrowed"},
        {"param": "lr", "old": None, "new": [1e-5, 1.0], "reason": "given"},
    ]
    ranges.append({"param": "dropout", "old": [0.0, 0.9], "new": [0.0, 0.8], "reason": "narrowed"})
    plant(db, num_trials=1, **{attributes.PROVENANCE: {"from": "other", "ranges": ranges}})
    stage = read_stage(db, "coarse")
    stage.evidence.ranges["dropout"] = FloatRange(0.0, 0.8)
    rows = dict(history.provenance(stage)["rows"])
    assert rows["range of batch"] == "[8, 512] → [64, 128]: narrowed"
    assert rows["range of lr"] == "[1e-05, 1e+00]: given"
    assert rows["range of dropout"] == "[0, 0.9] → [0, 0.8]: narrowed"
    note = study_note(stage.evidence, {}, advise(db, stage.evidence)).replace("\\", "")
    assert "- batch: [8, 512] → [64, 128], narrowed" in note
    assert "- dropout: [0, 0.9] → [0, 0.8], narrowed" in note
    db.close()
