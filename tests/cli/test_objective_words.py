"""What is said of objectives that report nothing, take no epochs and no seed: no more than there is."""

import io

import pytest

CODE = """
import itertools
calls = itertools.count()

def parabola(params, report):
    return -((params["x"] - 0.3) ** 2)

def drifts(params, report):
    return params["x"] + next(calls) / 10

def nothing(params):
    return float("nan") if params["x"] < params.get("until", 2) else -float("inf")

def steps(params, report):
    for k in range(4):
        report(params["x"] * k)
    return params["x"]
"""
X = ("--space", "x=uniform(0,1)")


@pytest.fixture(scope="module")
def place(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("words")
    (folder / "mine.py").write_text(CODE)
    line = command_line(folder)
    line.coarse = line("coarse", "--objective", "mine:parabola", *X, "--trials", "13", "--metric", "height")
    line("coarse", "--objective", "mine:steps", *X, "--trials", "2", "--name", "steps")
    return line


@pytest.mark.slow
def test_nan_and_inf_without_a_report_are_no_explosion_in_a_step(place):
    options = (*X, "--trials", "2", "--workers", "1")
    said = place("coarse", "--objective", "mine:nothing", *options, "--name", "nan").stdout
    assert [line.partition(", x: ")[0] for line in said.splitlines()[:2]] == ["exploded: value nan"] * 2
    advice = "every trial of nan gave nan and reported nothing: look at why, or search other ranges"
    assert advice in said
    assert advice in place("status", "nan").stdout
    trial = place("trial", "nan", "0").stdout
    assert "trial    0 of nan: PRUNED, exploded: value nan\n" in trial
    assert "step" not in trial
    assert place.json("trial", "nan", "0")["intermediate"] == {}
    place("report", "nan", "-o", "nan.html")
    assert (
        "2 of 2 trials of nan exploded: they gave nan and reported nothing." in (place.folder / "nan.html").read_text()
    )
    sets = ("--set", "objective.params.until=-1", "--name", "both", "--direction", "minimize", "--sampler", "gp")
    assert "exploded: value -inf" in place("coarse", "--objective", "mine:nothing", *options, *sets).stdout


def test_epochs_that_an_objective_does_not_take_are_not_spoken_of(place):
    said = place.coarse.stdout
    assert "coarse   13 of 13 trials ·" in said
    assert "go on    coarse is a coarse search: search on where it worked" in said
    place("report", "coarse", "-o", "page.html")
    page = (place.folder / "page.html").read_text().partition("<body")[2].partition("<script")[0]
    plan = place("fine", "--from", "coarse", "--trust", "mine", "--dry-run").stdout
    for text in (said, plan, place("status", "coarse").stdout, place("trial", "coarse", "3").stdout, page):
        assert not [
            word for word in ("epoch", "train", "image", "accura", "weights") if word in text.split("<details")[0]
        ]
    assert "Every trial, with its value; nothing was reported on the way." in page
    assert place.json("status", "coarse")["epochs"] is None


def test_reports_of_an_objective_without_epochs_are_steps(place):
    said = place("trial", "steps", "1").stdout
    assert "returned; the best that it reported is" in said
    assert "at step 4" in said
    assert "epoch" not in said


def test_an_objective_without_a_seed_is_said_to_be_called_again_without_one(place):
    said = place("rerun", "coarse", "3", "--seeds", "3", "--trust", "mine").stdout
    assert "trial    3 of coarse gave its recorded value exactly" in said
    assert "calls    3 without a seed, which it does not take: height -0.0" in said
    assert "each time" in said
    assert "seeds move" not in said
    place("coarse", "--objective", "mine:drifts", *X, "--trials", "3", "--name", "drifts")
    said = place("rerun", "drifts", "2", "--seeds", "3", "--trust", "mine").stdout
    assert "did NOT give its recorded value: " in said
    assert "calls    3 without a seed, which it does not take: value" in said
    assert "std 0.1000" in said
    assert "calls move one trial (std 0.1000)" in said


def test_limits_of_a_range_hold_from_stage_to_stage(place):
    space = ("--space", "x=log(0.1,1) in [0.01,1]")
    said = place(
        "coarse", "--objective", "mine:steps", *space, "--sampler", "grid", "--trials", "12", "--name", "held"
    ).stdout
    assert "boundary x at the upper end of [1e-01, 1e+00], its limit" in said
    said = place("fine", "--from", "held", "--trust", "mine", "--trials", "6").stdout
    assert "the best, 1e+00, is on the upper boundary: no higher value is allowed" in said
    attributes = place.json("export", "held-fine")["attributes"]
    assert attributes["hpsearch.config"]["space"]["x"]["limits"] == [0.01, 1]
    assert attributes["hpsearch.config"]["space"]["x"]["log"][1] == 1


def test_code_that_has_changed_since_is_noted_wherever_it_counts(place):
    (place.folder / "moves.py").write_text("def f(params, report):\n    return params['x']\n")
    search = ("coarse", "--objective", "moves:f", *X, "--trials", "2", "--name", "moves")
    assert "has changed" not in place(*search).stderr
    (place.folder / "moves.py").write_text("def f(params, report):\n    return -params['x']\n")
    assert "note: moves has changed since 'moves' was begun" in place(*search).stderr
    fine = place("fine", "--from", "moves", "--trust", "moves", "--trials", "2")
    assert "moves has changed since 'moves', whose trials gave the ranges, was begun" in fine.stdout + fine.stderr
    assert "note     moves has changed since" in place("rerun", "moves", "1", "--seeds", "1", "--trust", "moves").stdout


def test_a_program_that_is_not_there_costs_no_trial(place):
    for words, said in (
        (("nothere", "{x}"), "the program 'nothere'"),
        (("python", "gone.py", "{x}"), "the script 'gone.py'"),
    ):
        assert f"{said} is not there" in place("wrap", *X, "--name", "gone", "--", *words, code=2).stderr
    assert "gone" not in place("status").stdout


@pytest.mark.slow
def test_a_time_makes_stages_of_an_objective_shorter(place):
    (place.folder / "waits.py").write_text(
        "import time\ndef f(params, report):\n    time.sleep(0.2)\n    return -(params['x'] - 0.4) ** 2\n"
    )
    said = place("run", "--objective", "waits:f", *X, "--time", "60s", "--name", "timed").stdout
    assert "fitted   to the time" in said
    assert " of 100 trials\n" in said
    stages = [row for row in place.json("status") if row["study"].startswith("timed-")]
    assert all(row["finished"] == row["trials"] for row in stages)
    assert 8 <= stages[0]["trials"] < 100


def test_what_nobody_reports_has_no_column_on_the_watched_page(place):
    from rich.console import Console

    from hpsearch.analysis.snapshots import Watcher
    from hpsearch.cli.watch import Page
    from hpsearch.storage import find_study, open_database

    def page(study):
        db = open_database(f"sqlite:///{place.folder}/studies/hpsearch.db")
        watcher = Watcher(db, find_study(db, study))
        screen = Console(width=100, height=30, record=True, file=io.StringIO())
        screen.print(Page(watcher.look()))
        return screen.export_text()

    quiet, steps = page("coarse"), page("steps")
    assert "13 of 13 trials " in quiet
    assert not [word for word in ("curve", "verdict", "epoch") if word in quiet]
    assert "curve" in steps
    assert "epoch" not in steps


def test_the_command_center_draws_no_curves_where_there_are_none(place):
    from hpsearch.report.center import center_data
    from hpsearch.report.stage import read_stage
    from hpsearch.storage import open_database

    db = open_database(f"sqlite:///{place.folder}/studies/hpsearch.db")
    found = {name: center_data(read_stage(db, name)) for name in ("coarse", "steps")}
    assert (found["coarse"]["hasCurves"], found["steps"]["hasCurves"]) == (False, True)
    assert all(trial["text"] for trial in found["coarse"]["trials"])
