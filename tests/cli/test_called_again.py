"""The leader of a fine stage over code of one's own is called again: as its user sees it, and through other workers."""

import signal

import pytest

from hpsearch.analysis.study_trials import read_study
from hpsearch.search.training_script.objective_call import objective_script
from hpsearch.stages.earlier_trials import read_earlier_trials
from hpsearch.stages.opening import stored_plan
from hpsearch.storage import find_study, open_database, read_trials

CODE = """
import math, os, random
from pathlib import Path

def noisy(params, report, seed):
    drawn = random.Random(f"{seed} {params}").gauss(0, 0.05)
    return 1 - (math.log10(params["rate"]) + 2) ** 2 / 10 + drawn

def dies(params, report, seed, trial):
    if 0 < seed == trial and not Path("died").exists():  # a trial that calls another one again
        Path("died").write_text(str(trial))
        os.kill(os.getppid(), 9)
    return noisy(params, report, seed)

def killed(params, report, seed, trial):
    if 0 < seed == trial and not Path("killed").exists():  # as where memory runs out: its own process alone
        Path("killed").write_text(str(trial))
        os.kill(os.getpid(), 9)
    return 1 - (math.log10(params["rate"]) + 2) ** 2 / 10  # no luck: the best one stays the best

def constant(params, report, epochs):
    report(params["rate"], 1)
    return params["rate"]

def of_optuna(trial):
    rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
    if trial.suggest_categorical("kind", ["a", "b"]) == "b":
        rate += trial.suggest_int("depth", 1, 3)
    return rate + random.random()
"""
RATE = ("--space", "rate=log(1e-4,1)")


@pytest.fixture(scope="module")
def place(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("again")
    (folder / "mine.py").write_text(CODE)
    return command_line(folder)


@pytest.fixture(scope="module")
def noisy(place):
    """Tests only read it."""
    place("coarse", "--objective", "mine:noisy", *RATE, "--trials", "12")
    place.fine = place("fine", "--from", "coarse", "--trust", "mine:noisy", "--trials", "20")
    return place


def trials(place, study):
    db = open_database(f"sqlite:///{place.folder}/studies/hpsearch.db")
    try:
        return read_trials(db, find_study(db, study))
    finally:
        db.close()


def called_again(rows):
    return {row.number: row.attrs["again"] for row in rows if "again" in row.attrs}


@pytest.mark.slow
def test_the_last_trials_call_the_leader_again_within_the_budget(noisy):
    rows = trials(noisy, "fine")
    assert len(rows) == 20
    again = called_again(rows)
    assert min(again) >= 14
    for number, of in again.items():
        assert rows[number].params == rows[of].params
        assert rows[number].value != rows[of].value  # another seed
    lines = [line for line in noisy.fine.stdout.splitlines() if " again, (" in line]
    assert len(lines) == len(again)
    assert f"trial {next(iter(again.values()))} again, (" in lines[0]
    coarse = trials(noisy, "coarse")
    tried = [row for row in rows if row.attrs.get("tried in") == "coarse"]
    assert all(any(row.params == other.params for other in coarse) for row in tried)
    leads = max(row.value for row in rows[:14])
    inside = [row for row in coarse if row.value > leads and 0.002 < row.params["rate"] < 0.05]
    assert tried or not inside
    assert tried or rows[14].attrs["again"] == max(rows[:14], key=lambda row: row.value).number


def test_the_best_is_the_one_with_the_best_mean_of_its_calls(noisy):
    best = noisy.json("best", "fine")
    means = [sum([each["first"], *each["values"]]) / (1 + len(each["values"])) for each in best["repeated"]]
    assert best["repeated"][0]["trial"] == best["number"]
    assert means == sorted(means, reverse=True) == pytest.approx([each["mean"] for each in best["repeated"]])
    assert f"again    trial {best['number']}: " in noisy.fine.stdout
    assert "chosen for a score, chosen for luck" in noisy.fine.stdout
    mean = f"{best['repeated'][0]['mean']:.4f}, the mean of {1 + len(best['repeated'][0]['values'])} calls"
    assert f"best     trial {best['number']}  value {mean}" in noisy("status", "fine").stdout
    assert f"value    {mean}" in noisy("best", "fine").stdout
    listed = {each["study"]: each["best"] for each in noisy.json("status")}
    assert listed["fine"] == best["repeated"][0]["mean"]
    assert listed["coarse"] == noisy.json("best", "coarse")["value"]
    watched = noisy.json("status", "fine", "--watch")["best"]
    assert not any("again" in each["attributes"] for each in watched)


def test_a_trial_says_which_one_it_calls_again(noisy):
    number, of = next(iter(called_again(trials(noisy, "fine")).items()))
    assert f"again    it calls trial {of} again" in noisy("trial", "fine", str(number)).stdout
    again = noisy.json("rerun", "fine", str(number), "--trust", "mine:noisy", "--seeds", "1")
    assert again["match"] == "exact"  # with the seed that it had


def test_the_next_stage_is_told_the_means_and_once_what_was_tried(noisy):
    noisy("fine", "--from", "fine", "--trust", "mine:noisy", *RATE, "--trials", "1", "--name", "after")
    db = open_database(f"sqlite:///{noisy.folder}/studies/hpsearch.db")
    study = find_study(db, "after")
    told = read_earlier_trials(db, study, stored_plan(study))
    db.close()
    of = {(each.study, each.params["rate"]): each.value for each in told}
    assert {study for study, _ in of} == {"coarse", "fine"}
    rows = trials(noisy, "fine")
    for each in noisy.json("best", "fine")["repeated"]:
        rate = rows[each["trial"]].params["rate"]
        assert ("coarse", rate) not in of
        assert of["fine", rate] == each["mean"]


def test_a_trial_shows_what_it_gave_again(noisy):
    each = noisy.json("best", "fine")["repeated"][0]
    shown = noisy("trial", "fine").stdout
    assert f"again    trial {each['trial']}: {each['first']:.4f} at first, again " in shown
    assert f"mean {each['mean']:.4f}" in shown
    assert noisy.json("trial", "fine")["repeated"] == each
    assert noisy.json("trial", "coarse")["repeated"] is None


def test_a_script_calls_the_code_with_the_seed_that_the_trial_had(noisy):
    db = open_database(f"sqlite:///{noisy.folder}/studies/hpsearch.db")
    evidence = read_study(db, "fine")
    db.close()
    again = next(iter(called_again(evidence.trials)))
    assert f'"seed": {again},' in objective_script(evidence, evidence.trials[again])
    assert '"seed": 0,' in objective_script(evidence, evidence.trials[0])


def test_a_watcher_has_the_best_by_the_mean_of_its_calls(noisy):
    best = noisy.json("best", "fine")["repeated"][0]
    watched = noisy.json("status", "fine", "--watch")["best"][0]
    assert (watched["number"], watched["repeated"]) == (best["trial"], best)
    line = noisy("status", "fine", "--watch").stdout
    assert f"best value {best['mean']:.4f}, the mean of {1 + len(best['values'])} calls (trial {best['trial']})" in line


def test_the_report_shows_the_calls_of_each(noisy):
    noisy("report", "coarse", "fine", "-o", "again.html")
    page = (noisy.folder / "again.html").read_text()
    assert "The best trials again" in page
    of = next(iter(called_again(trials(noisy, "fine")).values()))
    assert f"it calls trial {of} again" in page
    best = noisy.json("best", "fine")["repeated"][0]
    assert f"{best['mean']:.4f}, the mean of {1 + len(best['values'])} calls (trial {best['trial']})" in page


def test_the_plan_says_so_and_none_are_called_again_where_that_is_not_wanted(noisy):
    options = ("fine", "--from", "coarse", "--trust", "mine:noisy", "--trials", "20", "--name", "plain", "--dry-run")
    assert "from trial 14 on, the best one is called again up to 1 time before another" in noisy(*options).stdout
    assert "of the best few the most promising one is called again" in noisy(*options, "--sampler", "gp").stdout
    assert "called again" not in noisy(*options, "--set", "fine.confirm=0").stdout


@pytest.mark.slow
def test_a_call_whose_worker_is_killed_calls_the_same_trial_again(place):
    place("coarse", "--objective", "mine:dies", *RATE, "--trials", "12", "--name", "risky", "--workers", "1")
    search = (
        "fine",
        "--from",
        "risky",
        "--trust",
        "mine:dies",
        "--trials",
        "20",
        "--name",
        "riskier",
        "--workers",
        "1",
    )
    place(*search, code=-signal.SIGKILL)
    number = int((place.folder / "died").read_text())
    before = trials(place, "riskier")[number]
    assert before.state == "RUNNING"
    place(*search)
    rows = trials(place, "riskier")
    assert len(rows) == 20
    assert all(row.state == "COMPLETE" for row in rows)
    assert (rows[number].params, rows[number].attrs["again"]) == (before.params, before.attrs["again"])
    assert rows[number].params == rows[rows[number].attrs["again"]].params


@pytest.mark.slow
def test_a_call_whose_process_is_killed_is_made_again_and_its_trial_stays_the_best(place):
    place(
        "coarse", "--objective", "mine:killed", *RATE, "--trials", "10", "--name", "sure", "--set", "coarse.sampler=tpe"
    )
    place("fine", "--from", "sure", "--trust", "mine:killed", "--trials", "12", "--name", "surer", "--forget")
    number = int((place.folder / "killed").read_text())
    rows = trials(place, "surer")
    assert [row.number for row in rows if row.state == "FAIL"] == [number]
    assert rows[number + 1].attrs["again"] == rows[number].attrs["again"]
    best = place.json("best", "surer")
    assert best["value"] == max(row.value for row in rows if row.value is not None)
    assert all(each["exploded"] == 0 for each in best["repeated"])


def test_code_without_luck_is_called_once_more_for_each_leader(place):
    place("coarse", "--objective", "mine:constant", *RATE, "--trials", "10", "--name", "flat")
    said = place("fine", "--from", "flat", "--trust", "mine:constant", "--trials", "10", "--name", "flatter").stdout
    rows = trials(place, "flatter")
    again = list(called_again(rows).values())
    assert len(again) == len(set(again)) >= 1
    assert "no better than what it gives again" in said or "no better than what they give again" in said


@pytest.mark.slow
def test_an_objective_of_optuna_asks_for_the_same_values_again(place):
    place("coarse", "--optuna-objective", "mine:of_optuna", "--trials", "10", "--name", "asked")
    place("fine", "--from", "asked", "--trust", "mine:of_optuna", "--trials", "20", "--name", "told", "--workers", "2")
    rows = trials(place, "told")
    again = called_again(rows)
    assert again
    assert all(rows[number].params == rows[of].params for number, of in again.items())
    assert all(row.state == "COMPLETE" for row in rows)
