"""`hpsearch trial`: what it says of a trial, and curves that can be read in any terminal."""

import io
import math

import optuna
import pytest
from rich.console import Console

from hpsearch.analysis import attributes
from hpsearch.cli.curves import BLOCKS, LABEL, chart, sparkline
from hpsearch.config import FloatRange
from hpsearch.results import EpochResult
from hpsearch.storage import NewTrial, Outcome, Queue, RungQueue, create_stage, open_database

STUDY = {
    attributes.STAGE: "coarse",
    attributes.CONFIG: {"coarse": {"epochs": 30}},
    attributes.DATASET: {"classes": 10},
}
NUM_EPOCHS = 30


@pytest.fixture
def planted(hpsearch):
    """`hpsearch` beside a study whose trial 0 overfits, 1 explodes, 2 fails, 3 is healthy and short, 4 waits."""
    db = open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db", create=True)
    space = {"lr": FloatRange(1e-4, 10.0, log=True)}
    study = create_stage(db, "planted", "maximize", STUDY, space, [NewTrial({"lr": 0.1})] * 5)
    queue = Queue(db, study, "vm-abc/1/x")
    overfitting, exploding, failing, short = queue.take(4)
    for e in range(1, NUM_EPOCHS + 1):
        row = EpochResult(0, e, 9 / e, 2.3 / e**2, 1 - 0.9 / e, 1.2 + 0.05 * e, 0.6, 1e-3, 0.1)
        queue.record([(overfitting, row)])
    for e in (1, 2, 3):
        queue.record([(short, EpochResult(3, e, 1 / e, 1 / e, 0.6, 1 / e, 0.6, 1e-3, 0.1))])
    explosion = {
        attributes.REASON: attributes.EXPLODED,
        attributes.EPOCH: 1,
        attributes.COST: "nan",
        attributes.FIRST_COST: 2.3,
    }
    queue.finish(
        [
            Outcome(overfitting, "COMPLETE", 0.6, {attributes.BEST_EPOCH: 1, attributes.LAST_VALUE: 0.6}),
            Outcome(exploding, "PRUNED", 0.0, explosion, (1, 0.0)),
            Outcome(failing, "FAIL", None, {attributes.REASON: "ValueError: no", attributes.TRACEBACK: "..."}),
            Outcome(short, "COMPLETE", 0.6),
        ]
    )
    db.close()
    return hpsearch


def test_an_overfitting_trial_is_explained_and_drawn(planted):
    shown = planted("trial", "planted", 0).stdout
    assert "verdict  overfitting" in shown
    assert "train.reg" in shown
    assert "val_acc  0.6000 at epoch 1, 0.6000 at the end" in shown
    lines = shown.splitlines()
    assert max(map(len, lines[lines.index("loss, log axis") :])) <= 80
    for title, names in (("loss, log axis", {"cost", "train", "val"}), ("accuracy", {"train", "val"})):
        plot = lines[lines.index(title) + 1 :][:11]
        assert {line.split()[-1] for line in plot} >= names
        assert any("epoch 1" in line and line.endswith("30") for line in plot)
    assert "update_ratio" not in shown
    assert "update_ratio" in planted("trial", "planted", 0, "--table").stdout


def test_diagnosis_as_json(planted):
    shown = planted.json("trial", "planted", 0)
    assert {"study", "number", "state", "value", "params", "epochs", "diagnosis"} <= set(shown)
    assert set(shown["diagnosis"]) == {"verdict", "advice", "notes"}
    assert shown["diagnosis"]["verdict"] == "overfitting"
    assert len(shown["epochs"]) == NUM_EPOCHS
    assert planted.json("trial", "planted", 2)["diagnosis"] is None


def test_a_trial_at_a_rung_says_where_it_waits(hpsearch):
    db = open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db", create=True)
    study = create_stage(db, "halved", "maximize", STUDY, {"lr": FloatRange(1e-4, 10.0, log=True)}, [NewTrial({})] * 2)
    queue = RungQueue(db, study, "vm-abc/1/x")
    leases = queue.take_chosen(lambda _standing: {0: 1, 1: 3})
    queue.record([(lease, EpochResult(lease.number, 1, 2.3, 2.3, 0.2, 2.3, 0.2, 1e-3, 0.1)) for lease in leases])
    queue.pause([(leases[0], 1, {})])
    db.close()
    assert "trial    0 of halved: RUNNING, waits after epoch 1 to be promoted" in hpsearch("trial", "halved", 0).stdout
    trains = hpsearch("trial", "halved", 1).stdout
    assert "trial    1 of halved: RUNNING\n" in trains
    assert "until" not in trains  # the queue's own notes


def test_without_a_number_it_is_the_best_one(planted):
    assert "trial    0" in planted("best", "planted").stdout
    assert planted("trial", "planted").stdout == planted("trial", "planted", 0).stdout


def test_trials_that_did_not_complete(planted):
    exploded = planted("trial", "planted", 1).stdout
    assert "PRUNED, exploded in epoch 1: cost nan, first 2.3" in exploded
    assert "verdict  exploded" in exploded
    assert "lower lr" in exploded
    assert "FAIL, ValueError: no" in planted("trial", "planted", 2).stdout
    assert "4 of planted: WAITING" in planted("trial", "planted", 4).stdout


def test_a_short_trial_has_its_table_below_the_curves(planted):
    shown = planted("trial", "planted", 3).stdout
    assert shown.index("verdict") < shown.index("accuracy") < shown.index("update_ratio")
    assert "update_ratio" not in planted("trial", "planted", 3, "--no-table").stdout


def test_a_trial_of_another_program_has_a_curve_and_no_verdict(hpsearch):
    url = f"sqlite:///{hpsearch.folder}/optuna.db"
    study = optuna.create_study(study_name="theirs", storage=url)

    def objective(trial):
        rate = trial.suggest_float("rate", 0, 1)
        for step in range(20):
            trial.report(math.inf if step == 3 else 100 / (step + 1), step)
        return rate

    study.optimize(objective, n_trials=1)
    shown = hpsearch("trial", "theirs", "0", "--storage", url).stdout
    assert "did not train it" in shown
    assert "step 0" in shown
    assert "⠤" in shown or "⠒" in shown
    document = hpsearch.json("trial", "theirs", "0", "--storage", url)
    assert document["diagnosis"] is None
    assert document["intermediate"]["3"] == "inf"


def test_status_counts_the_verdicts(planted):
    assert planted.json("status", "planted")["diagnoses"] == {"overfitting": 1, "exploded": 1, "healthy": 1}
    assert "trials   1 overfitting, 1 exploded, 1 healthy" in planted("status", "planted").stdout


def printed(text, width=80):
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True).print(text)
    return out.getvalue().splitlines()


def dots(line):
    return sum((ord(char) - 0x2800).bit_count() for char in line if 0x2800 <= ord(char) < 0x2900)


def test_a_line_is_where_its_values_are():
    falling = [(epoch, 1.0 - epoch / 20) for epoch in range(1, 21)]
    title, *rows, axis, ticks = printed(chart("loss", {"train": falling}, 60, height=8))
    assert title == "loss"
    assert len(rows) == 8
    centres = []
    for row in rows:
        inked = [column for column, char in enumerate(row[: 60 - 6]) if dots(char)]
        centres.append(sum(inked) / len(inked))
    assert centres == sorted(centres)
    assert rows[-1].endswith("train")
    assert (rows[0].split()[0], rows[-1].split()[0]) == ("1", "0")
    assert axis.index("└") == LABEL - 1
    assert (ticks.split()[0], ticks.split()[1], ticks.split()[-1]) == ("epoch", "1", "20")


def test_lines_differ_without_colour():
    flat = [(epoch, 0.5) for epoch in range(1, 31)]
    inks = {
        name: sum(map(dots, printed(chart("x", {name: [*flat, (31, 1.0)]}, 80)))) for name in ("train", "val", "cost")
    }
    assert inks["train"] > 1.3 * inks["val"] > 1.3 * 1.3 * inks["cost"] > 0


def test_charts_of_odd_curves():
    for values in ([0.5], [math.nan, 0.5], [0.0, 0.0], [1e9, 1e-9], [-1.0, 2.0], [5.0] * 3, list(range(500))):
        line = list(enumerate(map(float, values), start=1))
        rows = printed(chart("x", {"val": line, "train": [(1, math.inf)]}, 70))
        assert all(len(row) <= 70 for row in rows)
        assert sum(map(dots, rows)) >= 1
    assert "log axis" in printed(chart("x", {"val": [(1, 1000.0), (2, 1.0)]}, 70))[0]
    assert "no finite values" in printed(chart("x", {"val": [(1, math.nan)]}, 70))[0]


def test_sparklines():
    assert sparkline([0.0, 0.5, 1.0], 10) == "▁▅█"
    assert sparkline([0.1 * i for i in range(11)], 3) == "▂▅█"
    assert sparkline([math.nan, 2.0, -1.0], 5) == "█▁"
    assert sparkline([], 5) == ""
    assert set(sparkline([i / 99 for i in range(100)], 8)) == set(BLOCKS)
