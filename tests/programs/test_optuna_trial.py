"""An Optuna objective in its process: what its trial says and hears."""

import re

import optuna
import pytest

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.usercode import UserCodeError, trust
from hpsearch.programs.gpus import visible
from hpsearch.programs.messages import Broken, Ended, Left, Noted, Pruned, Reported, Suggest, Suggested, Task
from hpsearch.programs.objective_forms import refuse_other_objectives
from hpsearch.programs.program import Program
from hpsearch.space import range_from_json

CODE = """
import optuna

def everything(trial):
    assert isinstance(trial, optuna.Trial) and trial.number == 3
    lr = trial.suggest_float("lr", 1e-5, 1, log=True)
    assert trial.suggest_float("lr", 1e-5, 1, log=True) == lr == trial.params["lr"]
    width = trial.suggest_int("width", 16, 64, step=16)
    act = trial.suggest_categorical("act", ["relu", (3, 4), None])
    assert type(width) is int and act == (3, 4)
    assert trial.suggest_int("only", 7, 7) == 7
    assert trial.suggest_float("step", 0, 1, step=0.25) == 0.5
    assert trial.study.study_name == "search" and trial.study.direction.name == "MINIMIZE"
    trial.set_user_attr("note", {"a": [1, None]})
    assert trial.user_attrs["note"] == {"a": [1, None]}
    for step in range(2):
        trial.report(lr + step, step)
        assert not trial.should_prune()
    return lr * width

def pruned(trial):
    heeds = trial.suggest_categorical("heeds", [False, True])
    for step in range(3):
        trial.report(1.0, step)
        if heeds and trial.should_prune():
            raise optuna.TrialPruned
    return 7.0

def stopped(trial):
    trial.report(1.0, 0)
    trial.report(2.0, 1)

def outside(trial):
    return trial.suggest_float("x", 0, 1)

def objects(trial):
    trial.suggest_categorical("a", [dict, list])

def unknown(trial):
    trial.suggest_normal("x", 0, 1)

def upside_down(trial):
    trial.suggest_float("x", 1, 0)

def constrained(trial):
    trial.set_constraint("c", 1.0)

def no_json(trial):
    trial.set_user_attr("c", {1, 2})

def two(trial):
    return 1.0, 2.0

def text(trial):
    trial.report("a", 0)

def caught(trial):
    try:
        return trial.suggest_float("x", 0, 1)
    except ValueError:
        return 0.25

def objective(trial, checkpoint, device="cpu", *, seed):
    if trial.number == 0:
        return 10.0 * seed + (device == "cuda") + (checkpoint.name == "folder")
    return globals()[trial.suggest_categorical("case", CASES)](trial)

CASES = sorted(name for name, value in globals().items() if callable(value))
"""
CASES = sorted(name for name in re.findall(r"def (\w+)", CODE))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("defined")
    (folder / "defined.py").write_text(CODE)
    trust("defined")
    made = Program(ObjectiveConfig(function="defined:objective", form="optuna", direction="minimize"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made.start()
    yield made
    made.end()


def talk(program, case, answers, advice_at=None, why="median", advice=True):
    """All that a trial says to its end; calls by name and range. An answer that is text beginning with ! is wrong."""
    program.begin(Task(3, study="search", checkpoint="folder"))
    said = []
    while True:
        match program.next(30):
            case Suggest("case"):
                program.suggest(Suggested(CASES.index(case)))
            case Suggest(name, distribution):
                said.append((name, range_from_json(distribution)))
                answer = answers[name]
                is_wrong = isinstance(answer, str) and answer.startswith("!")
                program.suggest(Suggested(wrong=answer[1:]) if is_wrong else Suggested(answer))
            case Reported() as reported:
                said.append((reported.epoch, reported.value))
                is_last = reported.epoch == advice_at
                program.answer(why if is_last else "", advice=advice or not is_last)
            case Noted(name, kept):
                said.append((name, kept))
            case end:
                return said, end


def test_all_that_an_objective_calls_is_asked_and_told(program):
    said, end = talk(program, "everything", {"lr": 0.5, "width": 32, "act": 1, "only": 7, "step": 0.5})
    assert said == [
        ("lr", FloatRange(1e-5, 1.0, log=True)),
        ("width", IntRange(16, 64, step=16)),
        ("act", Choice(("relu", (3, 4), None))),
        ("only", IntRange(7, 7)),
        ("step", FloatRange(0.0, 1.0, step=0.25)),
        ("note", {"a": [1, None]}),
        (0, 0.5),
        (1, 1.5),
    ]
    assert end == Ended(16.0)


def test_advice_is_for_the_code_to_take(program):
    said, end = talk(program, "pruned", {"heeds": 1}, advice_at=1)
    assert (said[1:], end) == ([(0, 1.0), (1, 1.0)], Pruned())
    said, end = talk(program, "pruned", {"heeds": 0}, advice_at=1)
    assert (len(said), end) == (4, Ended(7.0))


def test_an_end_that_is_no_advice_is_raised_by_report(program):
    said, end = talk(program, "stopped", {}, advice_at=0, why="stopped", advice=False)
    assert (said, end) == ([(0, 1.0)], Left())


@pytest.mark.parametrize(
    ("case", "reason", "trace"),
    [
        ("outside", "no value for x", "Allowed: none"),
        ("objects", "trial.suggest_categorical('a', ...) has choices", "Allowed"),
        ("unknown", "AttributeError: 'Trial' object has no attribute 'suggest_normal'", ""),
        ("upside_down", "ValueError: ", "low=1"),
        ("constrained", "trial.set_constraint is not there", "raise optuna.TrialPruned"),
        ("no_json", "trial.set_user_attr('c', ...) was given set", "Allowed: numbers, text"),
        ("two", "defined:objective returned (1.0, 2.0), not a number", "def objective(trial)"),
        ("text", "TypeError", "supposed to be a float"),
    ],
)
def test_what_goes_wrong_is_told_and_the_process_serves_on(program, case, reason, trace):
    _, end = talk(program, case, {"x": "!no value for x.\nAllowed: none."})
    assert isinstance(end, Broken)
    assert end.reason.startswith(reason)
    assert trace in end.traceback


def test_a_wrong_call_is_a_value_error_that_the_code_may_catch(program):
    assert talk(program, "caught", {"x": "!no"})[1] == Ended(0.25)


def test_it_is_given_what_it_has_arguments_for(program):
    program.begin(Task(0, seed=4, device="cuda:1", checkpoint="folder"))
    assert program.next(30) == Ended(42.0)


class Callable:
    def __init__(self, trial=None):
        pass

    def __call__(self, trial):
        return 1.0


def forgets(trial):
    value = trial.suggest_float("lr", 0, 1)

    def inner():
        return value

    inner()


def prunes(trial):
    raise optuna.TrialPruned


async def waits(trial):
    return 1.0


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: 1.0, "too many positional"),
        (lambda trial, other: 1.0, "missing a required argument: 'other'"),
        (Callable, "it is a class; an instance"),
        (3.0, "it is a float"),
        (optuna.study.Study.__new__(optuna.study.Study), "it is a Study"),
        (forgets, "it returns no number: it has no return with a value"),
        (waits, "it is asynchronous"),
    ],
)
def test_what_is_no_objective_is_refused_before_any_trial(function, why):
    with pytest.raises(UserCodeError, match=rf"it cannot be called as objective\(trial\): {why}.*\nAllowed: def obj"):
        refuse_other_objectives("it", function)


@pytest.mark.parametrize("function", [lambda trial, seed, more=3: 1.0, Callable(), Callable().__call__, prunes, max])
def test_what_may_be_an_objective_is_called(function):
    refuse_other_objectives("it", function)


@pytest.mark.parametrize(
    ("device", "hidden", "seen"),
    [("cpu", "", None), ("cuda", "", None), ("cuda:1", "", "1"), ("cuda:1", "4,6", "6"), ("cuda:3", "4", "3")],
)
def test_a_worker_s_gpu_is_the_only_one(device, hidden, seen):
    assert visible(device, {"CUDA_VISIBLE_DEVICES": hidden}).get("CUDA_VISIBLE_DEVICES") == seen
