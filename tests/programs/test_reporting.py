"""What `report` takes for a value and an epoch, and what becomes of epochs that come twice or out of order."""

import numpy as np
import pytest

from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.usercode import UserCodeError, trust
from hpsearch.programs.calling import MAX_EPOCH, as_epoch, as_value
from hpsearch.programs.messages import Broken, Ended, Reported, Task
from hpsearch.programs.program import Program

CODE = """
def told(params, report):
    for value, epoch in params["reports"]:
        report(value) if epoch == "none" else report(value, epoch)
    return 1.0
"""


@pytest.mark.parametrize(("epoch", "whole"), [(0, 0), (7, 7), (np.int64(3), 3), (3.0, 3), (MAX_EPOCH, MAX_EPOCH)])
def test_whole_numbers_are_epochs(epoch, whole):
    assert as_epoch(epoch) == whole
    assert type(as_epoch(epoch)) is int


@pytest.mark.parametrize("epoch", [-1, 1.5, "3", True, float("nan"), float("inf"), MAX_EPOCH + 1, 10**30, [1], b"1"])
def test_nothing_else_is_one(epoch):
    with pytest.raises(UserCodeError, match=r"report\(value, epoch\): epoch = .*\nAllowed: 0 to 2147483647"):
        as_epoch(epoch)


@pytest.mark.parametrize("value", [None, True, "0.5", [1.0], object()])
def test_only_numbers_are_values(value):
    with pytest.raises(UserCodeError, match=r"report\(value\): value = .* is no number"):
        as_value(value)
    assert as_value(np.float32(0.5)) == 0.5


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    (folder / "toldcode.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trust("toldcode")
        made = Program(ObjectiveConfig(function="toldcode:told"))
        made.start()
    yield made
    made.end()


def heard(program, *reports, **task):
    program.begin(Task(0, {"reports": reports}, **task))
    found = []
    while isinstance(event := program.next(60), Reported):
        found.append((event.value, event.epoch))
        program.answer()
    return found, event


def test_of_an_epoch_that_comes_twice_the_first_value_stays(program, tmp_path):
    out = tmp_path / "out.txt"
    found, end = heard(program, (0.1, 1), (0.2, 2), (0.9, 2), (0.3, 3), output=str(out))
    assert (found, end) == ([(0.1, 1), (0.2, 2), (0.3, 3)], Ended(1.0))
    assert "epoch 2 is reported already; the value 0.9 is ignored" in out.read_text()


def test_epochs_may_come_in_any_order_and_are_counted_on_from_the_highest(program):
    found, end = heard(program, (0.5, 5), (0.3, 3), (0.4, 4), (0.6, "none"), (0.7, "none"))
    assert (found, end) == ([(0.5, 5), (0.3, 3), (0.4, 4), (0.6, 6), (0.7, 7)], Ended(1.0))


def test_an_attempt_may_go_back_behind_what_an_earlier_one_did(program):
    found, _ = heard(program, (0.2, 2), (0.3, 3), earlier=((1, 0.1), (2, 0.2), (3, 0.3)))
    assert found == [(0.2, 2), (0.3, 3)]
    found, _ = heard(program, (0.4, "none"), earlier=((1, 0.1), (3, 0.3)))
    assert found == [(0.4, 4)]


@pytest.mark.parametrize("epoch", [-1, 2.5, 10**12])
def test_what_is_no_epoch_fails_the_trial_in_our_words(program, epoch):
    found, end = heard(program, (0.1, epoch))
    assert (found, type(end)) == ([], Broken)
    assert end.reason.startswith("report(value, epoch): epoch = ")
    assert end.traceback == "Allowed: 0 to 2147483647, or none."
