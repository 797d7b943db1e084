"""A search over an Optuna objective as it is, by the commands."""

import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from held_searches import wait_for

CODE = """
import math, os, time
from pathlib import Path
import optuna

def objective(trial):
    kind = trial.suggest_categorical("kind", ["sgd", "adam"])
    rate = trial.suggest_float("rate", 1e-5, 1, log=True)
    layers = trial.suggest_int("layers", 1, 3)
    widths = [trial.suggest_int(f"width{layer}", 16, 128, step=16) for layer in range(layers)]
    value = 1 - (math.log10(rate) + 2) ** 2 / 10 - 0.01 * layers
    if kind == "sgd":
        value -= abs(trial.suggest_float("momentum", 0, 0.9) - 0.5) / 10
    trial.set_user_attr("widths", widths)
    trial.set_user_attr("epoch", 5)
    for step in range(3):
        trial.report(value - 0.5 / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
        time.sleep(float(os.environ.get("STEP", "0")))
    return value

def asked(trial):
    with open(f"asked-{os.environ['SEARCH']}.txt", "a") as file:
        for place in range(4):
            value = trial.suggest_float(f"x{place}", 0, 1)
            print(trial.number, place, repr(value), file=file, flush=True)
            while "HELD" in os.environ and len(Path(file.name).read_text().splitlines()) > 45:  # until it is killed
                Path("held").touch()
                time.sleep(0.05)
    return trial.params["x0"]

def heedless(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(3):
        trial.report(x, step)
    if x > 0.9:
        try:
            trial.report(float("nan"), 3)
        except optuna.TrialPruned:
            trial.set_user_attr("late", 1)
            raise
    if x < 0.1:
        raise optuna.TrialPruned
    return x

def changes(trial):
    if trial.number:
        return trial.suggest_int("x", 0, 1)
    return trial.suggest_float("x", 0, 1)

def sometimes(trial):
    return trial.suggest_int("n", 1, 1 if trial.number % 2 else 5)

def bowl(trial):
    x = trial.suggest_float("x", -5, 5)
    n = trial.suggest_int("n", 1, 9)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return (x - 2) ** 2 + abs(n - 3) + (trial.suggest_float("y", 1e-4, 1, log=True) if kind == "a" else 0.5)

def smooth(trial):
    x = trial.suggest_float("x", -5, 5)
    n = trial.suggest_int("n", 1, 9)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    if x < -3:
        return float("nan")
    value = 1 - (x - 2) ** 2 / 25 - abs(n - 3) / 20 - 0.01 * (kind == "b")
    if "PRUNE" in os.environ and x < 0:
        trial.report(value, 1)
        raise optuna.TrialPruned
    return value

def called(params, report):
    return (params["x"] - 2) ** 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("defined")
    (folder / "mine.py").write_text(CODE)
    return command_line(folder)


@pytest.fixture(scope="module")
def searched(place):
    """A coarse and a fine stage of `objective`; tests only read them."""
    enqueue = ("--enqueue", "rate=0.02,layers=2", "--enqueue", "kind=adam")
    place.coarse = place(
        "coarse", "--optuna-objective", "mine:objective", *enqueue, "--trials", "16", "--sampler", "random"
    )
    follow = next(line for line in place.coarse.stdout.splitlines() if line.startswith("next"))
    place.fine = place(*follow.split()[2:], "--trials", "8", "--set", "fine.sampler=random")  # as printed
    place.trials = {name: place.json("export", name, "-f", "json")["trials"] for name in ("coarse", "fine")}
    return place


def params_of(place, name):
    return [trial["params"] for trial in place.json("export", name, "-f", "json")["trials"]]


@pytest.mark.slow
def test_trials_have_what_their_calls_asked_for(searched):
    assert "16 of 16 trials" in searched.coarse.stdout
    for trial in searched.trials["coarse"]:
        params = trial["params"]
        widths = [params[f"width{layer}"] for layer in range(params["layers"])]
        assert list(params)[:3] == ["kind", "rate", "layers"]
        assert len(params) == 3 + len(widths) + (params["kind"] == "sgd")
        assert all(width in range(16, 129, 16) for width in widths)
        assert trial["attributes"]["widths"] == widths
        assert trial["attributes"]["user.epoch"] == 5
        assert trial["state"] == "COMPLETE"
        assert list(trial["intermediate"]) == ["0", "1", "2"]


def test_what_was_enqueued_came_first_and_is_marked(searched):
    first, second, *others = searched.trials["coarse"]
    assert (first["params"]["rate"], first["params"]["layers"]) == (0.02, 2)
    assert second["params"]["kind"] == "adam"
    assert first["attributes"]["enqueued"] == {"rate": 0.02, "layers": 2}
    assert not [trial for trial in others if "enqueued" in trial["attributes"]]


def test_a_fine_stage_keeps_the_narrowed_ranges_within_the_calls(searched):
    kind = next(line for line in searched.fine.stdout.splitlines() if line.startswith("kind "))
    assert kind.startswith("kind     {sgd, adam} -> {sgd, adam}")
    assert kind.endswith("; all stay, as the objective names its choices itself")
    assert "dropped" not in kind
    kept = {
        row["param"]: row["new"]
        for row in searched.json("fine", "--from", "coarse", "--trust", "mine", "--dry-run")["ranges"]
    }
    assert kept["rate"][1] / kept["rate"][0] < 1e4
    for trial in searched.trials["fine"]:
        for name in ("rate", "width0", "layers"):
            low, high = kept[name]
            assert low <= trial["params"][name] <= high
        assert trial["params"]["width0"] % 16 == 0
    boundary = {row["param"]: row for row in searched.json("boundary", "fine")["parameters"]}
    assert boundary["rate"]["low"] == pytest.approx(kept["rate"][0])
    assert boundary["kind"]["proposed"] == ["sgd", "adam"]  # as every fine stage keeps them


@pytest.mark.slow
def test_a_fine_stage_begins_with_what_the_stages_before_found_inside_its_ranges(searched):
    flags = ("--from", "coarse", "--trust", "mine", "--trials", "4", "--sampler", "cmaes")
    searched("fine", *flags, "--name", "knowing")
    plan = searched.json("fine", *flags, "--name", "knowing", "--dry-run")["ranges"]
    ends = {row["param"]: row["new"] for row in plan if row["param"] != "kind"}
    inside = [
        all(ends[name][0] <= value <= ends[name][1] for name, value in trial["params"].items() if name in ends)
        for trial in searched.trials["coarse"]
    ]
    learning = searched.json("status", "knowing")["learning"]
    assert learning["earlier"] == {"coarse": sum(inside)}
    assert sum(inside) > 1
    searched("fine", *flags, "--name", "forgetting", "--forget")
    assert searched.json("status", "forgetting")["learning"]["earlier"] == {}
    knowing, forgetting = (params_of(searched, name) for name in ("knowing", "forgetting"))
    assert knowing != forgetting


@pytest.mark.slow
@pytest.mark.parametrize("prunes", [False, True])
def test_before_a_gaussian_process_trials_are_drawn_from_the_ranges_that_the_plan_prints(place, prunes, monkeypatch):
    """They stay as they were, but for where trials explode; they narrow where it is not told of all trials."""
    if prunes:
        monkeypatch.setitem(place.environment, "PRUNE", "1")
    coarse, fine = ("pruned", "pruned-fine") if prunes else ("smooth", "smooth-fine")
    search = ("coarse", "--optuna-objective", "mine:smooth", "--trials", "16", "--name", coarse)
    place(*search, "--set", "coarse.sampler=random")
    then = ("fine", "--from", coarse, "--trust", "mine", "--trials", "5", "--name", fine, "--sampler", "gp")
    plan = {row["param"]: row for row in place.json(*then, "--dry-run")["ranges"]}
    assert any("as gp knows its trials" in row["reason"] for row in plan.values()) != prunes
    assert (plan["n"]["new"] == [1, 9]) != prunes
    assert plan["x"]["new"][0] > -5
    said = place(*then).stdout
    assert ("as gp knows its trials" in said) != prunes
    database = sqlite3.connect(place.folder / "studies/hpsearch.db")
    query = "SELECT param_name, param_value, distribution_json FROM trial_params JOIN trials USING (trial_id) "
    query += "JOIN studies USING (study_id) WHERE study_name = ?"
    rows = database.execute(query, (fine,)).fetchall()
    database.close()
    assert len(rows) == 15
    for name, value, text in rows:
        known = json.loads(text)["attributes"]
        if name == "kind":
            assert known["choices"] == plan["kind"]["new"] == ["a", "b"]
        else:
            assert [known["low"], known["high"]] == plan[name]["new"]
            assert known["low"] <= value <= known["high"]


def test_the_ranges_of_the_calls_are_kept_with_the_study(searched):
    [attributes] = [searched.json("export", "fine", "-f", "json")["attributes"]]
    assert attributes["hpsearch.called"]["rate"] == {
        "name": "FloatDistribution",
        "attributes": {"step": None, "low": 1e-5, "high": 1.0, "log": True},
    }
    assert attributes["hpsearch.called"]["width0"]["attributes"]["step"] == 16


@pytest.mark.slow
def test_all_that_reads_a_study_reads_it(searched):
    (searched.folder / "best.toml").write_text(searched("best", "fine", "-f", "toml").stdout)
    searched("coarse", "-c", "best.toml", "--name", "around", "--trials", "3")
    best = searched.json("boundary", "fine")["parameters"]
    low, high = next((row["low"], row["high"]) for row in best if row["param"] == "rate")
    assert all(low <= params["rate"] <= high for params in params_of(searched, "around"))
    again = searched.json("rerun", "fine", "3", "--seeds", "1", "--trust", "mine")
    assert again["match"] == "exact"
    searched("report", "coarse", "fine")
    page = (searched.folder / "report.html").read_text()
    assert "momentum" in page
    samplers = ("--samplers", "random,tpe", "--repeats", "2", "--trials", "4")
    said = searched("compare", "--optuna-objective", "mine:objective", *samplers).stdout
    assert "rate values" in said
    said = searched("compare", "--optuna-objective", "mine:objective", "--name", "no", code=2).stderr
    assert "samplers = 'grid' needs all ranges before the first trial" in said
    run = ("run", "--optuna-objective", "mine:objective", "--name", "p", "--max-stages", "2")
    document = searched.json(*run, "--set", "coarse.trials=8", "--set", "fine.trials=4")
    assert [stage["study"] for stage in document["stages"]] == ["p-coarse", "p-fine"]


@pytest.mark.slow
def test_what_is_given_takes_the_place_of_a_call(place):
    space = ("--space", "rate=log(1,100)", "--space", "width0=choice(20,40)", "--set", "objective.params.kind=adam")
    place("coarse", "--optuna-objective", "mine:objective", *space, "--trials", "8", "--name", "given")
    found = params_of(place, "given")
    assert all(1 <= params["rate"] <= 100 and params["width0"] in (20, 40) for params in found)
    assert not [params for params in found if "kind" in params or "momentum" in params]
    fine = ("fine", "--from", "given", "--trust", "mine", "--trials", "4", "--set", "fine.sampler=random")
    place(*fine, "--name", "given-fine")
    ranges = {row["param"]: row["new"] for row in place.json(*fine, "--name", "other", "--dry-run")["ranges"]}
    assert all(ranges["rate"][0] <= p["rate"] <= ranges["rate"][1] for p in params_of(place, "given-fine"))


@pytest.mark.slow
def test_pruning_and_explosions_are_those_of_any_objective(place):
    place("coarse", "--optuna-objective", "mine:heedless", "--trials", "24", "--name", "heedless", "--pruner", "median")
    trials = place.json("export", "heedless", "-f", "json")["trials"]
    for trial in trials:
        x, reason = trial["params"]["x"], trial["attributes"].get("reason")
        if x > 0.9:
            assert (trial["state"], reason, trial["attributes"]["late"]) == ("PRUNED", "exploded", 1)
        elif x < 0.1:
            assert trial["state"] == "PRUNED"
            assert reason in ("median", "pruned by the objective")
        else:
            assert (trial["state"], trial["value"]) == ("COMPLETE", x)
    assert {trial["state"] for trial in trials} == {"COMPLETE", "PRUNED"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--sampler", "grid"), "coarse.sampler = 'grid' needs all ranges before the first trial"),
        (("--space", "rate=log(0.1,1) if kind=sgd"), "space.rate has a condition, but mine:objective says itself"),
        (("--enqueue", "rate"), "--enqueue rate has no value to try"),
        (("--objective", "mine:called"), "--objective and --optuna-objective are two ways"),
    ],
)
def test_what_cannot_be_is_told_in_two_lines(place, flags, said):
    search = ("coarse", "--optuna-objective", "mine:objective", "--name", f"wrong{flags[1]}", "--trials", "5")
    error = place(*search, *flags, code=2).stderr.removeprefix("error: ")
    assert error.startswith(said)
    assert len(error.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--space", "kind=choice(a,b)"), "space.kind = {a, b} does not fit what the objective calls"),
        (
            ("--set", "objective.params.rate=7"),
            "objective.params.rate = 7 is outside the range of the objective's call",
        ),
    ],
)
def test_what_no_call_can_give_stops_the_search_soon(place, flags, said):
    search = ("coarse", "--optuna-objective", "mine:objective", "--name", f"wrong{flags[1]}", "--trials", "5")
    assert f"the stage stops: {said}" in place(*search, *flags, code=1).stderr


@pytest.mark.slow
def test_an_enqueued_value_outside_its_call_costs_that_trial_alone(place):
    search = ("coarse", "--optuna-objective", "mine:objective", "--name", "outside", "--trials", "3")
    place(*search, "--enqueue", "rate=5")
    first, *others = place.json("export", "outside", "-f", "json")["trials"]
    assert first["attributes"]["reason"].startswith("enqueued rate = 5 is outside the range of the objective's call")
    assert {trial["state"] for trial in others} == {"COMPLETE"}


@pytest.mark.slow
def test_a_call_that_does_not_fit_the_others_fails_its_trial_alone(place):
    search = ("coarse", "--optuna-objective", "mine:sometimes", "--name", "sometimes", "--sampler", "tpe")
    place(*search, "--trials", "4", "--space", "n=choice(2,4)")
    trials = place.json("export", "sometimes", "-f", "json")["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAIL"] * 2
    assert "no value for a call of 'n': Cannot set different distribution kind" in trials[1]["attributes"]["reason"]


@pytest.mark.slow
def test_what_is_never_asked_for_is_said(place):
    search = ("coarse", "--optuna-objective", "mine:heedless", "--name", "typos", "--trials", "2")
    said = place(*search, "--space", "xx=int(1,2)", "--set", "objective.params.y=1", "--enqueue", "x=0.5,z=1").stderr
    assert "trial 0 was to try z, which was not asked for" in said
    assert "space.xx was of no use: no call of mine:heedless asked for it" in said
    assert "objective.params.y was of no use" in said


@pytest.mark.slow
def test_the_function_of_a_script_is_called_by_several_workers_which_import_it(place):
    (place.folder / "script.py").write_text(
        "import hpsearch\n"
        "def objective(trial):\n"
        "    return trial.suggest_float('x', 0, 1)\n"
        "if __name__ == '__main__':\n"
        "    for workers in (1, 2):\n"
        "        name, sets = f'script-{workers}', {'run.workers': workers, 'coarse.sampler': 'random'}\n"
        "        stage = hpsearch.coarse(optuna_objective=objective, trials=6, sets=sets, name=name)\n"
        "        print([trial.value for trial in stage.trials])\n"
    )
    options = {"cwd": place.folder, "env": place.environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "script.py"], **options)
    one, two = done.stdout.splitlines()
    assert one == two
    assert len(json.loads(one)) == 6
    assert place("worker", "script-2", "--trust", "script").returncode == 0


@pytest.mark.slow
def test_a_name_keeps_its_kind(place):
    place("coarse", "--optuna-objective", "mine:changes", "--name", "changes", "--trials", "2")
    first, second = place.json("export", "changes", "-f", "json")["trials"]
    assert (first["state"], second["state"]) == ("COMPLETE", "FAIL")
    assert "Cannot set different distribution kind" in second["attributes"]["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "database"),
    [("random", "sqlite"), ("tpe", "sqlite"), pytest.param("tpe", "postgres", marks=pytest.mark.postgres)],
)
def test_a_killed_search_gives_its_trials_the_same_values_again(place, sampler, database, request, monkeypatch):
    if database == "postgres":
        url = request.getfixturevalue("postgres_databases").new()
        monkeypatch.setitem(place.environment, "HPSEARCH_STORAGE", url)
    name = f"killed-{sampler}-{database}"
    search = ("coarse", "--optuna-objective", "mine:asked", "--trials", "14", "--workers", "2", "--name", name)
    search = (*search, "--sampler", sampler)
    place.environment |= {"SEARCH": name, "HELD": ""}
    (place.folder / "held").unlink(missing_ok=True)
    process = place.start(*search)
    del place.environment["HELD"]
    file = place.folder / f"asked-{name}.txt"
    wait_for((place.folder / "held").exists, "a trial in mid-call after ten that are over")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    place(*search)
    trials = place.json("export", name, "-f", "json")["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 14
    asked: dict[tuple[int, int], set[float]] = {}
    for line in file.read_text().splitlines():
        number, position, value = line.split()
        asked.setdefault((int(number), int(position)), set()).add(float(value))
    assert len(file.read_text().splitlines()) > 14 * 4  # some were asked again
    assert asked == {(t["number"], i): {t["params"][f"x{i}"]} for t in trials for i in range(4)}
    if sampler == "random":  # and those are what one worker would have given
        place.environment["SEARCH"] = "alone"
        place(*search[:-6], "--trials", "14", "--name", "alone", "--sampler", "random")
        assert params_of(place, "alone") == [trial["params"] for trial in trials]


@pytest.mark.slow
def test_a_study_of_plain_optuna_is_gone_on_with(place):
    (place.folder / "theirs.py").write_text(
        "import optuna, mine\n"
        "study = optuna.create_study(study_name='theirs', storage='sqlite:///theirs.db')\n"
        "study.optimize(mine.bowl, n_trials=25)\n"
    )
    subprocess.run([sys.executable, "theirs.py"], cwd=place.folder, check=True, capture_output=True)
    where = ("--storage", "sqlite:///theirs.db")
    fine = ("fine", "--from", "theirs", *where)
    said = place(*fine, "--optuna-objective", "mine:bowl", "--trials", "10", "--sampler", "random").stdout
    assert "10 of 10 trials" in said
    study = place.json("export", "theirs-fine", *where, "-f", "json")
    assert study["direction"] == "minimize"
    ranges = {row["param"]: row for row in place.json("boundary", "theirs-fine", *where)["parameters"]}
    assert -5 < ranges["x"]["low"] < 2 < ranges["x"]["high"] < 5
    assert all(1e-4 <= t["params"]["y"] <= 1 for t in study["trials"] if t["params"]["kind"] == "a")
    assert [t for t in study["trials"] if t["params"]["kind"] == "b" and "y" not in t["params"]]
    follow = next(line for line in said.splitlines() if line.startswith("next"))
    place(*follow.split()[2:], "--trials", "3")
    place(*fine, "--objective", "mine:called", "--name", "called", "--trials", "4")
    wrong = (*fine, "--optuna-objective", "mine:bowl", "--name", "no", "--direction", "maximize")
    assert "objective.direction = 'maximize' is not that of 'theirs'" in place(*wrong, code=2).stderr
    with sqlite3.connect(place.folder / "theirs.db") as database:
        theirs = "FROM trials JOIN studies USING (study_id) WHERE study_name = 'theirs'"
        assert database.execute(f"SELECT COUNT(*) {theirs}").fetchall() == [(25,)]
