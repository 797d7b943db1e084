"""A search in which some hyperparameters belong to some optimizers alone, by the front door."""

import csv
import io

import pytest

SPACE = (
    "--space", "optimizer=choice(sgd,momentum)",
    "--space", "momentum=uniform(0.5,0.99)",
    "--space", "dropout=uniform(0,0.3) if optimizer=sgd",
)  # fmt: skip
SEARCH = ("coarse", "-c", "tiny.toml", *SPACE)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, command_line, tiny_study):
    folder = tmp_path_factory.mktemp("conditional")
    (folder / "tiny.toml").write_text(tiny_study)
    line = command_line(folder)
    line.plan = line(*SEARCH, "--dry-run").stdout
    line.coarse = line(*SEARCH, "--trials", "16")
    return line


def rows_of(line, study):
    return list(csv.DictReader(io.StringIO(line("export", study, "-f", "csv").stdout)))


def test_a_dry_run_says_what_is_searched_only_beside_what(conditional):
    assert "only" in conditional.plan
    assert "train.momentum where train.optimizer is momentum" in conditional.plan
    assert "model.dropout where train.optimizer is sgd" in conditional.plan


def test_what_a_trial_does_not_use_is_an_empty_cell(conditional):
    rows = rows_of(conditional, "coarse")
    assert len(rows) == 16
    assert {row["train.optimizer"] for row in rows} == {"sgd", "momentum"}
    for row in rows:
        assert bool(row["train.momentum"]) == (row["train.optimizer"] == "momentum")
        assert bool(row["model.dropout"]) == (row["train.optimizer"] == "sgd")


def test_verdicts_are_of_what_the_best_trial_has(conditional):
    judged = {verdict["param"] for verdict in conditional.json("status", "coarse")["boundary"]}
    best = conditional.json("best", "coarse")["params"]
    assert judged == set(best)
    assert ("train.momentum" in judged) != ("model.dropout" in judged)


def test_the_same_command_goes_on(conditional):
    again = conditional(*SEARCH, "--trials", "16")
    assert "another search" not in again.stderr


def test_a_report_has_all_trials(conditional):
    conditional("report", "coarse", "-o", "report.html")
    page = (conditional.folder / "report.html").read_text()
    assert "train.momentum" in page


@pytest.mark.slow
def test_fine_carries_the_conditions_on(conditional):
    """Also those of a range that is narrowed, and with a sampler that learns."""
    options = ("--sampler", "tpe", "--space", "optimizer=choice(sgd,momentum)")
    conditional("fine", "--from", "coarse", "--name", "both", "--trials", "10", *options)
    rows = rows_of(conditional, "both")
    assert {row["train.optimizer"] for row in rows} == {"sgd", "momentum"}
    for row in rows:
        assert bool(row["train.momentum"]) == (row["train.optimizer"] == "momentum")
        assert bool(row["model.dropout"]) == (row["train.optimizer"] == "sgd")
    space = conditional.json("export", "both", "-f", "json")["attributes"]["hpsearch.config"]["space"]
    assert space["model.dropout"]["when"] == {"train.optimizer": "sgd"}
    assert "when" not in space["train.momentum"]  # follows from who uses it
    conditional("fine", "--from", "coarse", "--name", "both", "--trials", "10", *options)


def test_what_the_winning_choice_does_not_use_is_searched_no_more(conditional):
    plan = conditional("fine", "--from", "coarse", "--name", "one", "--dry-run", "--space", "optimizer=choice(sgd)")
    assert "train.momentum is not used by sgd" in plan.stderr
    assert "train.momentum where" not in plan.stdout


def test_what_is_never_searched_is_refused(conditional):
    refused = conditional("coarse", "-c", "tiny.toml", "--space", "dropout=uniform(0,0.3) if optimizer=adam", code=2)
    assert "space.model.dropout is not used by momentum; adam uses it" in refused.stderr
    assert "--space model.dropout=none" in refused.stderr
