"""A search over a function or program of the user's own, by the commands, in a folder that knows nothing of images."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from held_searches import wait_for

CODE = """
import json, math, os, time
from pathlib import Path

def bowl(params, report, epochs):
    best = 1 - (math.log10(params["rate"]) + 2) ** 2 / 10 - 0.01 * abs(params["depth"] - 5)
    for epoch in range(1, epochs + 1):
        report(best - 0.5 / epoch, epoch)
    return best

def bad_at_times(params, report):
    if params["rate"] > 0.1:
        raise ValueError("rate too large")
    return params["rate"]

def levels(params, report, epochs):
    for epoch in range(1, epochs + 1):
        report(abs(math.log10(params["rate"]) + 2) + math.exp(-epoch), epoch)
    return abs(math.log10(params["rate"]) + 2) + math.exp(-epochs)

def hangs(params, report):
    report(1.0)
    if params["rate"] > 0.3:
        time.sleep(600)
    return params["rate"]

def loss(params, report, epochs):
    value = 1.0
    for _ in range(epochs):
        value *= 10 * params["rate"]
        report(value if value < 1e3 else float("nan"))
    return value

def either(params, report):
    if params["kind"] == "a":
        return 1 - abs(params["rate"] - 0.1) + 0 * len(params.get("depth", ""))
    return 0.9 - abs(params["depth"] - 3) / 10

def saved(params, report, checkpoint):
    state = checkpoint / "state.json"
    done = json.loads(state.read_text()) if state.exists() else []
    Path("began.txt").open("a").write(f"{params['rate']} {len(done)}\\n")
    while len(done) < 6:
        done.append(params["rate"] * (len(done) + 1))
        report(sum(done), len(done))  # first: what is saved is not reported again
        state.with_suffix(".new").write_text(json.dumps(done))
        state.with_suffix(".new").replace(state)
        while "HELD" in os.environ and len(Path("began.txt").read_text().splitlines()) > 2:  # until it is killed
            Path("held").touch()
            time.sleep(0.05)
    return sum(done)

def killed(params, report, checkpoint):
    state = checkpoint / "done"
    done = int(state.read_text()) if state.exists() else 0
    for epoch in range(done + 1, 4):
        report(float(epoch), epoch)
        state.write_text(str(epoch))
        if epoch < 3 or params["always"] == "yes":
            os.kill(os.getpid(), 9)  # as the system does where memory runs out
    return 3.0

def falls(params, report, checkpoint):
    state = checkpoint / "done"
    if not state.exists():
        report(1.0)
        state.write_text("1")
        os.kill(os.getppid(), 9)  # the worker has heard of it, and nothing else
        time.sleep(600)
    report(2.0)
    return 2.0
"""

SCRIPT = """
import argparse, math
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--epochs", type=int)
args = parser.parse_args()
for epoch in range(args.epochs):
    value = 1 - (math.log10(args.lr) + 2) ** 2 / 10 - 0.3 / (epoch + 1)
    print(f"\\r 50% epoch {epoch} ", end="")
    print(f"\\repoch {epoch} val_acc={value:.4f}")
"""

CURVES = "studies/artifacts/trials/*/0/reported.json"
FALLS = """
import sys, time
from pathlib import Path
lr, state = float(sys.argv[1]), Path(sys.argv[2]) / "done"
done = int(state.read_text()) if state.exists() else 0
with open("began.txt", "a") as file:
    file.write(f"{done} {'on' if done else 'new'}\\n")
for epoch in range(done + 1, 7):
    print(f"v={lr / epoch}", flush=True)
    state.write_text(str(epoch))
    while epoch == 3 and Path("hold").exists():
        Path("holds").touch()
        time.sleep(0.05)
"""

RATE = ("--space", "rate=log(1e-4,1)")


@pytest.fixture(scope="module")
def place(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(CODE)
    (folder / "script.py").write_text(SCRIPT)
    return command_line(folder)


@pytest.fixture(scope="module")
def searched(place):
    """A coarse and a fine stage of `bowl`; tests only read them."""
    depth = ("--space", "depth=int(1,10)")
    place.coarse = place("coarse", "--objective", "mine:bowl", *RATE, *depth, "--trials", "30", "--epochs", "2")
    follow = next(line for line in place.coarse.stdout.splitlines() if line.startswith("next"))
    place.fine = place(*follow.split()[2:], "--trials", "12", "--epochs", "4")  # as printed
    return place


def test_a_function_is_searched_from_coarse_to_fine(searched):
    said = searched.coarse.stdout
    assert "coarse   30 of 30 trials x 2 epochs" in said
    assert "boundary rate inside [1e-04, 1e+00]" in said
    assert "rate     [1e-04, 1e+00] -> [" in searched.fine.stdout
    best = searched.json("best", "fine")
    assert best["metric"] == "value"
    assert best["value"] > 0.97
    assert best["intermediate"].keys() == {"1", "2", "3", "4"}
    assert not {"last_val_acc", "val_acc"} & best["attributes"].keys()
    assert [(r["study"], r["finished"]) for r in searched.json("status")][:2] == [("coarse", 30), ("fine", 12)]


@pytest.mark.slow
def test_a_curve_that_will_not_reach_the_best_is_stopped_and_told_with_the_probability(place):
    options = ("--trials", "8", "--epochs", "12", "--pruner", "extrapolation", "--name", "stopped")
    options = (*options, "--direction", "minimize", "--workers", "1")
    said = place("coarse", "--objective", "mine:levels", *RATE, *options).stdout
    lines = [line for line in said.splitlines() if line.startswith("pruned by extrapolation (reaches the best, ")]
    assert len(lines) == 4
    assert all(" with probability 0.0" in line and ") in epoch " in line for line in lines)
    trial = place("trial", "stopped", "3").stdout
    assert "PRUNED, extrapolation (reaches the best, 0.7266, with probability 0.0" in trial
    best = place.json("best", "stopped")
    assert len(best["intermediate"]) == 12


@pytest.mark.slow
def test_nothing_that_is_said_of_it_is_of_images(searched):
    shown = [
        searched.coarse.stdout + searched.coarse.stderr + searched.fine.stdout,
        searched("trial", "fine", "3").stdout,
        searched("status", "fine").stdout,
        searched("best", "fine", "-f", "toml").stdout,
        searched("export", "fine").stdout,
        searched("boundary", "fine").stdout,
        searched("rerun", "fine", "3", "--seeds", "2", "--trust", "mine").stdout,
    ]
    for text in shown:
        assert not [word for word in ("image", "val_acc", "accuracy", "lr ", "data.") if word in text], text
    searched("report", "coarse", "fine")
    page = (searched.folder / "report.html").read_text()
    body = page[page.index("<body") :]
    words = [word for word in (" images", "accuracy", "val_acc") if word in body.split("<script")[0]]
    assert not words


def test_the_best_is_a_study_file_that_searches_on(searched):
    (searched.folder / "best.toml").write_text(searched("best", "fine", "-f", "toml").stdout)
    searched("coarse", "-c", "best.toml", "--name", "around", "--trials", "2", "--epochs", "1")
    assert len(searched.json("export", "around")["trials"]) == 2


def test_what_only_nets_have_is_refused_in_a_sentence(searched):
    (searched.folder / "own.toml").write_text(
        '[objective]\nfunction = "mine:bowl"\n[space]\nrate = { log = [0.1, 1] }\n'
    )
    for command in ("test", "predict"):
        said = searched(command, "fine", *(["mine.py"] if command == "predict" else []), code=3).stderr
        assert "searched over mine:bowl, which is not ours to train" in said
    for command in ("check", "train"):
        said = searched(command, "-c", "own.toml", code=2).stderr
        assert f"hpsearch {command} trains a net of [model], but [objective] has mine:bowl" in said
    said = searched("fine", "--from", "coarse", "--name", "other", code=3).stderr
    assert "the code 'mine:bowl' is named by the database, not by you" in said
    said = searched("coarse", "--objective", "mine:bowl", *RATE, "--data", "digits", "--name", "x", code=2).stderr
    assert "data.source does nothing beside [objective]" in said
    assert "mine:bowls: 'bowls' is not there" in searched("coarse", "--objective", "mine:bowls", *RATE, code=2).stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--objective", "mine:bowl", "--direction", "up"), "objective.direction = 'up' is not allowed"),
        (("--objective", "mine"), "objective.function = 'mine' is not allowed"),
        (("--objective", "mine:bowl", "--set", "objective.foo=1"), "objective.foo is not a key of a study file"),
        (("--objective", "mine:bowl", "--set", "objective.timeout=soon"), "objective.timeout = 'soon' is not allowed"),
    ],
)
def test_what_is_wrong_with_an_objective_is_told_by_its_key(place, flags, said):
    assert said in place("coarse", *flags, *RATE, "--name", "wrong", code=2).stderr


@pytest.mark.slow
def test_a_database_that_is_new_knows_no_checkpoints_of_another(place):
    search = ("coarse", "--objective", "mine:saved", *RATE, "--trials", "2", "--keep", "all", "--name", "anew")
    for storage in ("sqlite:///one.db", "sqlite:///two.db", "sqlite:///one.db"):
        (place.folder / "one.db").unlink(missing_ok=True)
        (place.folder / "began.txt").unlink(missing_ok=True)
        place(*search, "--storage", storage)
        assert [line.split()[1] for line in (place.folder / "began.txt").read_text().splitlines()] == ["0", "0"]


def test_code_that_fails_at_times_costs_those_trials_alone(place):
    command = ("coarse", "--objective", "mine:bad_at_times", *RATE, "--name", "times", "--trials", "40")
    said = place(*command, "--set", "coarse.sampler=qmc").stdout
    trials = place.json("export", "times")["trials"]
    failed = [t for t in trials if t["state"] == "FAIL"]
    assert failed == [t for t in trials if t["params"]["rate"] > 0.1]
    assert 0 < len(failed) < 20
    assert failed[0]["attributes"]["reason"] == "ValueError: rate too large"
    assert 'raise ValueError("rate too large")' in failed[0]["attributes"]["traceback"]
    assert "40 of 40 trials" in said


def test_code_that_always_fails_stops_the_search_soon(place):
    command = ("coarse", "--objective", "mine:bad_at_times", "--space", "rate=log(0.5,1)", "--name", "always")
    said = place(*command, code=1).stderr
    assert "3 trials failed with the same error, one after the other; the stage stops: ValueError" in said
    assert "output.txt" in said


def test_a_trial_that_hangs_fails_and_the_others_do_not(place):
    command = ("coarse", "--objective", "mine:hangs", "--space", "rate=choice(0.1,0.2,0.5)", "--sampler", "grid")
    place(*command, "--trials", "3", "--name", "hangs", "--set", "objective.timeout=2")
    trials = place.json("export", "hangs")["trials"]
    assert sorted((t["params"]["rate"], t["state"]) for t in trials) == [
        (0.1, "COMPLETE"), (0.2, "COMPLETE"), (0.5, "FAIL"),
    ]  # fmt: skip
    assert "no word for 2 s" in next(t["attributes"]["reason"] for t in trials if t["state"] == "FAIL")


@pytest.mark.slow
def test_values_that_run_away_are_explosions_and_evidence(place):
    flags = ("--direction", "minimize", "--metric", "loss", "--set", "objective.explosion=50")
    command = ("coarse", "--objective", "mine:loss", *RATE, *flags, "--name", "explodes", "--epochs", "5")
    said = place(*command, "--trials", "20").stdout
    trials = place.json("export", "explodes")["trials"]
    exploded = [t for t in trials if t["attributes"].get("reason") == "exploded"]
    assert {t["number"] for t in exploded} == {t["number"] for t in trials if t["params"]["rate"] * 10 > 50 ** (1 / 4)}
    assert exploded
    assert all(t["state"] == "PRUNED" for t in exploded)
    assert f"{len(exploded)} exploded" in said
    assert "best     trial" in said
    assert "loss " in said


@pytest.mark.slow
def test_a_killed_search_goes_on_from_its_checkpoints_with_equal_values(place):
    search = ("--objective", "mine:saved", *RATE, "--trials", "4", "--workers", "2", "--sampler", "random")
    whole = place("coarse", *search, "--name", "whole")
    began = place.folder / "began.txt"
    began.unlink()
    place.environment["HELD"] = ""
    process = place.start_warm("coarse", *search, "--name", "killed")
    del place.environment["HELD"]
    wait_for((place.folder / "held").exists, "a third trial that has saved its state")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    place("coarse", *search, "--name", "killed")
    values = [[t["value"] for t in place.json("export", name)["trials"]] for name in ("whole", "killed")]
    assert values[0] == values[1]
    assert "4 of 4 trials" in whole.stdout
    assert [line for line in began.read_text().splitlines() if not line.endswith(" 0")]  # some went on
    curves = [[t["intermediate"] for t in place.json("export", name)["trials"]] for name in ("whole", "killed")]
    assert curves[0] == curves[1]  # those of earlier attempts, too


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(place):
    search = ("coarse", "--objective", "mine:killed", "--trials", "2", "--workers", "1", "--sampler", "grid")
    said = place(*search, "--space", "always=choice(no,yes)", "--name", "oom")
    whole, given_up = sorted(place.json("export", "oom")["trials"], key=lambda trial: trial["state"])
    assert (whole["state"], whole["value"]) == ("COMPLETE", 3.0)
    assert whole["intermediate"] == {"1": 1.0, "2": 2.0, "3": 3.0}
    assert (given_up["state"], given_up["params"]["always"]) == ("FAIL", "yes")
    assert given_up["attributes"]["reason"] == "its process ended with signal 9"
    assert "its process ended with signal 9; it goes on from its checkpoint" in said.stdout + said.stderr


@pytest.mark.slow
def test_what_was_answered_before_a_first_checkpoint_survives_a_kill(place):
    search = ("coarse", "--objective", "mine:falls", *RATE, "--trials", "1", "--name", "falls")
    place(*search, code=-signal.SIGKILL)
    place(*search)
    assert place.json("export", "falls")["trials"][0]["intermediate"] == {"1": 1.0, "2": 2.0}


@pytest.mark.slow
def test_a_program_that_is_killed_keeps_the_best_that_it_had_said(place):
    (place.folder / "falls.py").write_text(FALLS)
    search = ("wrap", "--space", "lr=log(0.1,1)", "--trials", "1", "--workers", "1", "--metric", "v=(.*)")
    words = ("--", sys.executable, "falls.py", "{lr}", "{checkpoint}")
    place(*search, "--name", "fell", *words)
    before = {*place.folder.glob(CURVES)}
    (place.folder / "hold").touch()
    process = place.start(*search, "--name", "felled", *words)

    def said():  # and saved: what is killed in between goes on from another epoch than the search has
        curves = [json.loads(path.read_text()) for path in {*place.folder.glob(CURVES)} - before]
        return (place.folder / "holds").exists() and any(len(curve) == 3 for curve in curves)

    wait_for(said, "what its third epoch found")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (place.folder / "hold").unlink()
    place(*search, "--name", "felled", *words)
    whole, again = (place.json("export", name)["trials"][0] for name in ("fell", "felled"))
    assert again["value"] == whole["value"] == max(whole["intermediate"].values())
    assert again["intermediate"] == whole["intermediate"]
    assert (place.folder / "began.txt").read_text().splitlines()[-1].endswith(" on")


def test_any_program_is_searched_by_what_it_prints(place):
    words = ("--", sys.executable, "script.py", "--lr", "{lr}", "--epochs", "{epochs}")
    flags = ("--space", "lr=log(1e-5,1)", "--metric", r"epoch \d+ val_acc=([0-9.]+)", "--trials", "8", "--epochs", "2")
    said = place("wrap", *flags, *words).stdout
    assert "8 of 8 trials x 2 epochs" in said
    follow = next(line for line in said.splitlines() if line.startswith("next"))
    assert "--trust command:x" in follow
    place(*follow.split()[2:], "--trials", "4")
    trial = place.json("export", "wrapped")["trials"][0]
    assert list(trial["intermediate"]) == ["1", "2"]
    printed = next(line for line in place("trial", "wrapped", 0).stdout.splitlines() if line.startswith("output"))
    output = Path(place.folder / printed.split(maxsplit=1)[1])
    assert str(output) == str(place.folder / place.json("trial", "wrapped", 0)["output"])
    assert "epoch 1 val_acc=" in output.read_text()
    assert trial["value"] == max(trial["intermediate"].values())
    assert "a program (command:x" in place("fine", "--from", "wrapped", "--name", "no", code=3).stderr
    said = place("wrap", "--metric", "acc=[0-9.]+", *flags[:2], "--name", "no", *words, code=2).stderr
    assert "--metric acc=[0-9.]+ has no group that holds the value" in said
    said = place("wrap", *flags, "--name", "no", "--", "python", "script.py", code=2).stderr
    assert "space.lr: the command has no place for it" in said


@pytest.mark.slow
def test_coarse_learns_where_its_trials_tell_all_and_the_same_command_goes_on(place):
    for function, sampler in (("either", "tpe"), ("bowl", "random")):  # bowl is told of epochs: 5, and 20 in fine
        space = ("--space", "kind=choice(a,b)", *RATE, "--space", "depth=int(1,10)")
        command = ("coarse", "--objective", f"mine:{function}", *space, "--trials", "3", "--name", f"by-{sampler}")
        planned = place.json(*command, "--dry-run")
        assert planned["sampler"] == sampler
        place(*command)
        said = place(*command).stdout
        assert "spent: 3 of 3 trials" in said
        assert place.json(*command, "--dry-run")["sampler"] == sampler


@pytest.mark.slow
def test_a_conditional_space_is_kept_to_from_stage_to_stage(place):
    space = (
        "--space",
        "kind=choice(a,b)",
        "--space",
        "rate=log(1e-3,1) if kind=a",
        "--space",
        "depth=int(1,9) if kind=b",
    )
    place("coarse", "--objective", "mine:either", *space, "--trials", "16", "--name", "either")
    trials = place.json("export", "either")["trials"]
    assert all(t["state"] == "COMPLETE" for t in trials)
    assert {tuple(sorted(t["params"])) for t in trials} == {("kind", "rate"), ("depth", "kind")}
    for sampler in ("tpe", "gp"):
        fine = ("fine", "--from", "either", "--trust", "mine", "--trials", "4", "--sampler", sampler, "--name", sampler)
        place(*fine)
        assert all(t["state"] == "COMPLETE" for t in place.json("export", sampler)["trials"])


@pytest.mark.slow  # six searches
def test_the_whole_procedure_and_comparisons_take_an_objective(place):
    flags = ("--objective", "mine:bowl", *RATE, "--space", "depth=int(1,10)", "--set", "coarse.trials=20")
    document = json.loads(
        place("run", *flags, "--set", "fine.trials=8", "--max-stages", "2", "--name", "p", "--json").stdout
    )
    assert [stage["study"] for stage in document["stages"]] == ["p-coarse", "p-fine"]
    assert "hpsearch rerun p-" in document["next"] or "hpsearch fine --from" in document["next"]
    said = place("compare", *flags, "--samplers", "random,qmc", "--trials", "6", "--repeats", "2", "--name", "c").stdout
    assert "qmc" in said
