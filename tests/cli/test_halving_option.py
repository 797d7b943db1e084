"""--halving and --epochs-budget, by the commands: nets, objectives, what is said of epochs, and what is refused."""

import re
import signal

import pytest
from held_searches import go, wait_until_held, wait_until_told

from hpsearch.wording import count_text

OWN = """
def bowl(params, report, epochs):
    for epoch in range(1, epochs + 1):
        report(params["rate"] - 0.5 / epoch, epoch)
    return params["rate"]
"""
OBJECTIVE = ("coarse", "--objective", "mine:bowl", "--space", "rate=uniform(0,1)", "--epochs", "9")


@pytest.fixture
def own(hpsearch):
    (hpsearch.folder / "mine.py").write_text(OWN)
    return hpsearch


@pytest.mark.slow
def test_a_stage_says_what_it_spends_in_epochs(hpsearch, tiny_study):
    (hpsearch.folder / "tiny.toml").write_text(tiny_study)
    flags = ("coarse", "-c", "tiny.toml", "--halving", "promote", "--epochs", "9", "--epochs-budget", "40")
    plan = hpsearch(*flags, "--dry-run").stdout
    assert "coarse: 40 epochs, as many trials as fit, each of up to 9 epochs" in plan
    assert "after 1 and 3 epochs the best 1 in 3 is promoted" in plan
    done = hpsearch(*flags, "--workers", "1")
    num = len(done.stdout.split("boundary")[0].splitlines()) - 4
    assert f"spent: 40 of 40 epochs, by {num} trials" in done.stdout
    assert "pruned by halving in epoch 1" in done.stdout
    found = hpsearch.json("export", "coarse", "-f", "json")["trials"]
    assert sum(len(trial["intermediate"]) for trial in found) == 40
    assert f"spent: 40 of 40 epochs, by {num} trials" in hpsearch(*flags).stdout  # nothing is left to do


def test_a_stage_that_was_stopped_while_trials_wait_is_gone_on_with(hpsearch):
    """Trials that wait at a rung are in nobody's hands: workers were said to be at it, and to be watched."""
    flags = ("coarse", "-c", "tiny.toml", "--halving", "promote", "--epochs", "4", "--skip-checks")
    process = hpsearch.held(*flags, after=1)
    wait_until_held(hpsearch.folder)
    process.send_signal(signal.SIGINT)
    wait_until_told(hpsearch.folder)
    go(hpsearch.folder)
    process.communicate(timeout=600)
    found = hpsearch.json("export", "coarse", "-f", "json")["trials"]
    assert {"RUNNING", "WAITING"} <= {trial["state"] for trial in found} <= {"RUNNING", "WAITING", "PRUNED"}
    status = hpsearch("status", "coarse").stdout
    assert "workers are at it" not in status
    assert "next     hpsearch coarse" in status
    num = sum(trial["state"] == "RUNNING" for trial in found)
    assert f"{num} of them waiting at rungs" in status
    heads, row = (line.replace("at rungs", "at_rungs").split() for line in hpsearch("status").stdout.splitlines())
    shown = dict(zip(heads, row, strict=True))
    assert (shown["running"], shown["at_rungs"]) == ("0", str(num))
    (hpsearch.folder / "some.png").touch()
    (number, *_) = [trial["number"] for trial in found if trial["state"] == "RUNNING"]
    for command in (["best", "coarse"], ["test", "coarse"], ["predict", "coarse", "some.png"]):
        refused = hpsearch(*command, code=3).stderr
        assert f", {num} waiting at rungs).\nFinish it first, as hpsearch status coarse says" in refused
    for command in (["test", "coarse"], ["predict", "coarse", "some.png"]):
        refused = hpsearch(*command, "--trial", str(number), code=3).stderr
        assert f"trial {number} of 'coarse'" in refused
        assert "waits at a rung" in refused
    assert "Finish it first: hpsearch coarse" in hpsearch("fine", "--from", "coarse", code=3).stderr


def test_the_best_of_a_procedure_is_said_with_its_own_epochs(hpsearch, tiny_study):
    """Of three trials, with one in four promoted, none has more than one of four epochs."""
    (hpsearch.folder / "tiny.toml").write_text(tiny_study)
    changes = ("coarse.halving=promote", "coarse.reduction=4", "coarse.epochs=4", "coarse.trials=3")
    flags = [word for change in changes for word in ("--set", change)]
    done = hpsearch("run", "-c", "tiny.toml", "--skip-checks", "--max-stages", "1", *flags).stdout
    assert "trial" in done
    assert " after 1 epoch " in done
    assert " after 4 epochs" not in done


def test_an_objective_is_stopped_through_the_answer_to_its_report(own):
    own(*OBJECTIVE, "--trials", "12", "--halving", "stop")
    trials = own.json("export", "coarse", "-f", "json")["trials"]
    ends = {len(trial["intermediate"]) for trial in trials if trial["attributes"].get("reason") == "halving"}
    assert 1 in ends
    assert ends <= {1, 3}
    whole = [trial for trial in trials if trial["state"] == "COMPLETE"]
    assert max(trial["params"]["rate"] for trial in trials) == max(trial["value"] for trial in whole)
    assert len(whole) < 6


LATE = """
import math

def late(params, report, epochs):
    for epoch in range(1, epochs + 1):
        report(params["rate"] if epoch < 5 else math.nan, epoch)
    return params["rate"]
"""


FALLING = """
def falling(params, report, epochs):
    for epoch in range(1, epochs + 1):
        report(params["rate"] / epoch, epoch)  # as where it overfits
    return params["rate"] / epochs
"""


def test_the_best_over_code_that_returns_less_than_it_reported_came_to_its_end(own):
    """One that was stopped at the first rung was named, with what it had reported there."""
    (own.folder / "mine.py").write_text(FALLING)
    flags = ("--objective", "mine:falling", "--space", "rate=uniform(0.5,1)", "--epochs", "9", "--seed", "0")
    own("coarse", *flags, "--trials", "12", "--halving", "stop")
    trials = own.json("export", "coarse", "-f", "json")["trials"]
    best = max(trials, key=lambda trial: trial["params"]["rate"])
    assert own.json("best", "coarse")["number"] == best["number"]
    assert len(best["intermediate"]) == 9
    assert all(len(trial["intermediate"]) == 9 for trial in trials if trial["state"] == "COMPLETE")


@pytest.mark.slow
def test_of_a_stage_of_which_all_that_went_on_exploded_the_best_is_one_that_was_stopped(own):
    (own.folder / "mine.py").write_text(LATE)
    flags = ("--objective", "mine:late", "--space", "rate=uniform(0,1)", "--set", "coarse.epochs=9")
    ended = own("coarse", *flags, "--trials", "12", "--halving", "stop", "--seed", "0").stdout
    trials = own.json("export", "coarse", "-f", "json")["trials"]
    stopped = [trial for trial in trials if trial["attributes"]["reason"] == "halving"]
    best = max(stopped, key=lambda trial: trial["value"])
    assert [trial["number"] for trial in trials if trial["state"] != "PRUNED"] == [best["number"]]
    assert best["state"] == "COMPLETE"
    said = (
        f"{len(stopped)} were stopped at a rung, the best of them, trial {best['number']}, at {best['value']:.4f} after"
        f" {count_text(len(best['intermediate']), 'epoch')}, and {12 - len(stopped)} exploded from epoch 5 on"
    )
    assert f"best     trial {best['number']}  value {best['value']:.4f}  " in ended
    assert f"rungs    none came to its last epoch: {said}" in ended
    assert "narrow to where those that were stopped did well" in ended
    assert "next     hpsearch fine --from coarse --epochs 9 --trust mine:late" in ended
    assert "or       hpsearch fine --from coarse --epochs 4 --trust mine:late" in ended
    assert own.json("best", "coarse")["number"] == best["number"]
    shown = own("trial", "coarse").stdout
    assert f"{best['number']} of coarse: COMPLETE, stopped by halving in epoch {len(best['intermediate'])}\n" in shown
    plan = own("fine", "--from", "coarse", "--trust", "mine:late", "--dry-run").stdout
    assert f"no trial came to its last epoch; the top 3 of {len(stopped)} stopped at a rung lie in [" in plan


WITHOUT_EPOCHS = """
def steps(trial):
    rate = trial.suggest_float("rate", 0, 1)
    for step in range(1, 5):
        trial.report(rate, step)
        if trial.should_prune():
            raise __import__("optuna").TrialPruned
    return rate
"""


def test_of_an_optuna_objective_that_is_told_no_epochs_steps_are_counted(own):
    (own.folder / "mine.py").write_text(WITHOUT_EPOCHS)
    flags = ("coarse", "--optuna-objective", "mine:steps", "--set", "objective.direction=maximize", "--epochs", "4")
    done = own(*flags, "--trials", "4", "--halving", "stop").stdout
    found = own.json("export", "coarse", "-f", "json")["trials"]
    assert f"spent: {sum(len(trial['intermediate']) for trial in found)} steps, by 4 trials" in done
    assert "coarse   4 trials · " in done
    assert "of up to" not in done


@pytest.mark.slow
def test_code_that_reports_beyond_all_rungs_is_told_which_keys_to_change(own):
    (own.folder / "mine.py").write_text(WITHOUT_EPOCHS.replace("range(1, 5)", "range(100, 1000, 100)"))
    flags = ("coarse", "--optuna-objective", "mine:steps", "--direction", "maximize", "--halving", "stop")
    done = own(*flags, "--epochs", "9", "--trials", "6", "--workers", "1")
    said = "at steps 100, 200, ..., 900, and at none from 1 to 8: coarse.halving ends no trial. "
    said += "Set coarse.epochs = 900, the last step, and coarse.min_epochs = 100, the first"
    assert done.stderr.count("coarse.halving ends no trial") == 1
    for text in (done.stdout, done.stderr, own("status", "coarse").stdout, own("trial", "coarse", "3").stdout):
        assert said in text
    assert said in own.json("status", "coarse")["missed_rungs"]
    heeded = own(*flags, "--epochs", "900", "--trials", "6", "--set", "coarse.min_epochs=100", "--name", "heeded")
    assert "pruned by halving in step 100" in heeded.stdout
    assert "ends no trial" not in heeded.stdout + heeded.stderr + own("status", "heeded").stdout


FAILING = """
def failing(params, report, epochs):
    report(params["rate"], 1)
    if params["rate"] > 0.4:
        raise ValueError("it goes wrong in epoch 2")
    report(params["rate"], 2)
    return params["rate"]
"""


def test_failures_with_halved_trials_between_them_are_not_one_after_the_other(own):
    (own.folder / "mine.py").write_text(FAILING)
    flags = ("coarse", "--objective", "mine:failing", "--space", "rate=uniform(0,1)", "--epochs", "3", "--seed", "0")
    done = own(*flags, "--trials", "12", "--halving", "stop")
    assert done.stdout.count("failed: ValueError") >= 3
    assert "pruned by halving" in done.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--halving", "promote"), ["coarse.halving = 'promote'", "mine:bowl", "stop"]),
        (("--epochs-budget", "40"), ["coarse.epochs_budget = 40", "mine:bowl", "trials"]),
        (("--epochs-budget", "40", "--trials", "9"), ["--trials 9", "--epochs-budget 40"]),
        (("--halving", "stop", "--pruner", "median"), ["halving = 'stop'", "pruner = 'median'"]),
        (("--halving", "best"), ["coarse.halving", "best", "promote"]),
    ],
)
def test_what_cannot_be_is_refused_in_two_lines(own, flags, words):
    said = own(*OBJECTIVE, *flags, code=2).stderr.strip()
    assert len(said.splitlines()) == 2
    for word in words:
        assert word in said
    assert not (own.folder / "studies").exists() or own.json("status") == []


def test_a_budget_in_epochs_is_all_that_has_to_be_said(hpsearch, tiny_study):
    """Rungs up to the epochs of fine, and then a sampler that is chosen by what trials take."""
    (hpsearch.folder / "tiny.toml").write_text(re.sub(r"(?m)^(epochs|sampler|trials) = .*\n", "", tiny_study))
    flags = ("coarse", "-c", "tiny.toml", "--epochs-budget", "60", "--set", "fine.epochs=9", "--workers", "1")
    done = hpsearch(*flags, "--skip-checks").stdout
    assert "spent: 60 of 60 epochs" in done
    assert "next     hpsearch fine --from coarse\n" in done
    trials = hpsearch.json("export", "coarse", "-f", "json")["trials"]
    assert {len(trial["intermediate"]) for trial in trials} >= {1, 3, 9}  # the budget may end one between
    plan = hpsearch("fine", "--from", "coarse", "--dry-run").stdout
    assert re.search(r"fine from coarse: 50 trials x 9 epochs, (tpe|gp), as .* a proposal of gp", plan)
    refused = hpsearch(*flags, "--halving", "none", code=3).stderr
    assert 'is another search: coarse.halving: "promote" -> "none".' in refused
