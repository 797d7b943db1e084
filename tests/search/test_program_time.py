"""How long trials of an objective take, by calls that a clock of the test's own counts; and what fits a time."""

from dataclasses import dataclass, field

import pytest

from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.study import StudyConfig
from hpsearch.programs.messages import Broken, Ended, Left, Reported
from hpsearch.search import program_time
from hpsearch.search.program_time import Calls, call_seconds, fitted
from hpsearch.stages.listener import Listener
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.time_budget import fewer, least_share


@dataclass
class Clock:
    now: float = 0.0

    def monotonic(self):
        return self.now


@dataclass
class Code:
    """Stands for the process: a call takes `seconds`, with reports between."""

    clock: Clock
    seconds: list
    epochs: int = 0
    fails: bool = False
    takes: frozenset = frozenset()
    calls: list = field(default_factory=list)

    def begin(self, task):
        self.calls.append(task)
        self.left = self.epochs
        self.told = ""

    def answer(self, why=""):
        self.told = why

    def next(self, seconds):
        whole = self.seconds[min(len(self.calls), len(self.seconds)) - 1]
        if self.told:
            return Left()
        if whole > seconds:
            self.clock.now += seconds
            return None
        self.clock.now += whole / max(1, self.epochs)
        if self.left:
            self.left -= 1
            return Reported(0.5, self.epochs - self.left)
        return Broken("no") if self.fails else Ended(1.0)

    def end(self):
        self.told = "ended"


class Quiet(Listener):
    def checking(self, what):
        pass


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(program_time, "time", found)
    return found


def plan(**coarse):
    space = {"x": {"uniform": [0, 1]}, "kind": {"choice": ["a", "b"]}}
    config = StudyConfig(objective={"function": "mine:f"}, space=space, coarse={"trials": 100, "epochs": 10, **coarse})
    return StagePlan("coarse", "coarse", config)


def calls(code):
    return Calls(ObjectiveConfig(function="mine:f", params={"fixed": 3}), code, "cpu")


def test_a_quick_call_is_repeated_and_the_first_may_have_been_slow(clock):
    code = Code(clock, [0.6, 0.1, 0.1])
    assert call_seconds(plan(), calls(code), 1e3) == pytest.approx(0.1)
    assert len(code.calls) == 3
    assert {task.params["fixed"] for task in code.calls} == {3}
    assert len({task.params["x"] for task in code.calls}) == 3


def test_a_slow_call_is_one_and_stops_where_the_time_does(clock):
    code = Code(clock, [40.0])
    assert call_seconds(plan(), calls(code), 1e3) == 40.0
    assert len(code.calls) == 1
    assert call_seconds(plan(), calls(Code(clock, [40.0])), clock.now + 10) == 10.0


def test_of_code_that_takes_epochs_two_are_enough(clock):
    code = Code(clock, [20.0], epochs=10, takes=frozenset({"epochs"}))
    assert call_seconds(plan(), calls(code), 1e3) == pytest.approx(20.0)
    assert clock.now == pytest.approx(4.0)
    assert code.told == "timed"


def test_code_that_fails_is_not_timed(clock):
    assert call_seconds(plan(), calls(Code(clock, [0.1], fails=True)), 1e3) is None


@pytest.mark.parametrize(
    ("workers", "takes", "expected"),
    [(1, (), (41, 10)), (4, (), (100, 10)), (1, ("epochs",), (41, 10))],
)
def test_a_stage_gets_the_trials_that_fit(clock, workers, takes, expected):
    code = Code(clock, [2.0], takes=frozenset(takes))
    made = fitted(None, plan(), calls(code), workers, 100.0, Quiet())
    assert (made.settings.trials, made.settings.epochs) == expected
    assert (made.fitted is None) == (expected == (100, 10))


def test_epochs_that_nobody_is_told_of_save_no_time():
    settings = plan().settings
    assert fewer(settings, 0.1, has_epochs=False) == (10, 10)
    assert fewer(settings, 0.0, has_epochs=False) == (8, 10)
    assert fewer(settings, 0.1)[1] < 10
    assert least_share(settings, has_epochs=False) == 0.08
    assert fewer(plan(sampler="grid").settings, 0.1, has_epochs=False) == (100, 10)
