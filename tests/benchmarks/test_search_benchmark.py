"""`python -m benchmarks search`: surfaces whose optimum is known, exact budgets, scores, and a run that goes on."""

import contextlib
import json
import math

import numpy as np
import pytest

from benchmarks.search import command, page, results
from benchmarks.search.problem import BudgetSpentError, Problem, Run
from benchmarks.search.recording import EXPLODED, RECORDED, Recording
from benchmarks.search.results import Result
from benchmarks.search.scores import regrets_at, scores
from benchmarks.search.surfaces import SURFACES
from benchmarks.search.surrogates import surrogates
from benchmarks.search.tables import Table, tables
from benchmarks.search.ways import WAYS
from hpsearch.space import draw_random


@pytest.mark.parametrize("name", SURFACES)
def test_no_point_of_a_surface_is_better_than_its_optimum(name):
    problem = SURFACES[name]
    drawn = draw_random(problem.space, 2000, 0, problem.conditions)
    values = [problem.answers.true(params) for params in drawn]
    best = max(value for value in values if value is not None)
    assert best <= problem.optimum + 1e-9
    if problem.group == "inside" and len(problem.space) <= 3:
        assert best > problem.optimum - 0.07


@pytest.fixture
def table():
    """Three configurations of one choice and a rate, three epochs; the last one explodes in its second."""
    about = {"space": {"lr": {"log": [1e-4, 1.0]}, "optimizer": {"choice": ["sgd", "adam"]}}, "val": 100}
    params = {"lr": np.array([1e-3, 1e-1, 1e-1]), "optimizer": np.array([0.0, 0.0, 1.0])}
    counts = np.array([[20, 30, 40], [10, 60, 50], [80, EXPLODED, EXPLODED]])
    return Table(Recording(params, counts, about))


def of(table):
    return Problem("made", table.space, table, 0.6, "table", 3, 0.1)


def test_the_nearest_recorded_configuration_answers(table, tmp_path):
    table.recording.save(tmp_path / "made.npz")
    table = Table(Recording.load(tmp_path / "made.npz"))
    assert [table.row({"lr": lr, "optimizer": "sgd"}) for lr in (1e-9, 5e-3, 2e-2, 50.0)] == [0, 0, 1, 1]
    assert table.row({"lr": 1e-3, "optimizer": "adam"}) == 2, "another choice is further than any rate"
    assert table.true({"lr": 0.1, "optimizer": "sgd"}) == 0.6
    assert table.true({"lr": 0.1, "optimizer": "adam"}) is None


@pytest.mark.parametrize("kind", ["convnet", "mlp"])
def test_the_recorded_trainings_are_a_small_file_that_says_how_it_was_made(kind):
    file = RECORDED / f"{kind}.npz"
    assert file.stat().st_size < 30_000
    recording = Recording.load(file)
    assert recording.about["command"].startswith("python -m benchmarks record --data npz:cifar10.npz")
    assert f'name = "{kind}"' in recording.about["study"]
    assert recording.counts.shape == (512, 20)
    whole, low = tables()[kind], tables()[f"{kind}, low lr"]
    assert whole.optimum == low.optimum == recording.counts[recording.counts != EXPLODED].max() / 1000
    best = draw_random(low.space, 300, 0, low.conditions)
    assert max(low.answers.true(params) or 0 for params in best) < low.optimum


@pytest.mark.parametrize("kind", ["convnet", "mlp"])
def test_between_recorded_trainings_lies_what_they_say_together(kind):
    problem = surrogates()[f"smooth {kind}"]
    table = tables()[kind].answers
    params = table.recording.params
    off, exploded = [], 0
    for row in range(0, len(table.curves), 4):
        given = {name: float(values[row]) for name, values in params.items() if not np.isnan(values[row])}
        given["optimizer"] = table.space["optimizer"].values[int(params["optimizer"][row])]
        curve = problem.answers.curve(given)
        assert np.array_equal(np.isnan(curve), np.isnan(table.curves[row])), "it explodes where that one did"
        exploded += problem.answers.true(given) is None
        off += list(np.abs(curve - table.curves[row])[~np.isnan(curve)])
        near = {**given, "dropout": given["dropout"] + 1e-4}
        assert np.nanmax(np.abs(problem.answers.curve(near) - curve), initial=0.0) < 0.001
    assert exploded
    assert np.median(off) < 0.01
    drawn = draw_random(problem.space, 100, 0, problem.conditions)
    best = max(problem.answers.true(params) or 0 for params in drawn)
    assert problem.optimum - 0.1 < best <= problem.optimum


def test_each_epoch_is_paid_for_and_what_exploded_is_not_chosen(table):
    run = Run(of(table), 0, 5)
    first = run.begin({"lr": 1e-3, "optimizer": "sgd"})
    assert first.train(1) == 0.2
    exploding = run.begin({"lr": 0.1, "optimizer": "adam"})
    assert exploding.step() == 0.8
    assert exploding.step() is None
    assert exploding.best is None
    assert run.changes == [(1, pytest.approx(0.2)), (2, pytest.approx(0.5)), (3, pytest.approx(0.2))]
    assert first.train() == 0.4
    with pytest.raises(BudgetSpentError):
        first.step()
    assert run.spent == 5


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.needs == "optuna" and "gp" not in name])
def test_a_way_spends_all_epochs_and_no_more(name, table):
    problem = of(table) if WAYS[name].curves_only else SURFACES["conditional"]
    result = command.run_cell(results.Cell(name, problem.name, 14, 0), WAYS[name], problem)
    run = Run(problem, 0, 14 * problem.epochs)
    with contextlib.suppress(BudgetSpentError):
        WAYS[name].search(run)
    assert run.spent == run.budget
    assert result.num_trials >= 12, "of a fine stage of five, two may be calls of others again"
    assert [tuple(change) for change in result.changes] == run.changes, "the same seed, another search"


def made(way, seed, changes, trials=10):
    return Result(way, "p", trials, seed, "inside", 1, trials, changes, 0.0)


def test_ranks_and_shares_won():
    found = [made("a", 0, [(1, 0.5), (8, 0.1)]), made("b", 0, [(1, 0.2)]), made("a", 1, [(1, 0.3)])]
    found += [made("b", 1, [(2, 0.3)]), made("c", 0, [(1, 0.9)])]
    at_end = scores(regrets_at([each for each in found if each.way != "c"], 10), ["p"])
    assert (at_end["a"].rank, at_end["a"].won) == (1.25, 0.75)
    assert (at_end["b"].rank, at_end["b"].won) == (1.75, 0.25)
    early = scores(regrets_at(found, 5), ["p"])
    assert early["a"].searches == 1, "the seeds that all ways have"
    assert [early[way].rank for way in "abc"] == [2, 1, 3]


def test_ours_beside_tpe_and_the_best_of_the_others():
    found = [
        made(way, seed, [(1, regret + 0.01 * seed)])
        for seed in range(3)
        for way, regret in (("hpsearch", 0.2), ("tpe", 0.3), ("gp", 0.1), ("hpsearch, gp", 0.0))
    ]
    table = page.against_table(found, ["p"], 10)
    assert table.rows == [("p", "+0.1000", "+0.1000", "3 of 3", "gp", "-0.1000")]


def test_a_run_that_was_ended_goes_on_and_ends_with_a_page(tmp_path, capsys, monkeypatch):
    lines, drawn = tmp_path / "found.jsonl", tmp_path / "found.html"
    given = ["--trials", "8", "--surfaces", "cliff;far*", "--ways", "hpsearch;random", "--json", str(lines)]
    command.main(["--seeds", "1", *given])
    kept = lines.read_text()
    lines.write_text(kept + '{"way": "ran')  # cut off by a kill
    command.main(["--seeds", "2", *given, "--page", str(drawn)])
    assert lines.read_text().startswith(kept)
    found = results.read(lines)
    assert len(found) == 8 == len({result.cell for result in found})
    assert all(math.isfinite(regret) and regret >= 0 for result in found for _, regret in result.changes)
    assert json.loads(kept.splitlines()[0])["problem"] == "cliff"
    assert "mean rank" in capsys.readouterr().out
    assert "plotly" in drawn.read_text()
    monkeypatch.setattr(command, "run_cell", None)  # nothing is left to do
    command.main(["--seeds", "2", *given])


def test_a_way_without_its_package_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "hebo" else True)
    assert set(command.there(["random", "hebo"])) == {"random"}
    assert capsys.readouterr().out == "left out: hebo, because the package hebo is not there\n"
