"""The seam between a worker and the user's code: one contract, for functions and for programs."""

import json
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hpsearch.config import Choice
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.usercode import trust
from hpsearch.programs.messages import Broken, Ended, Left, Reported, Suggest, Suggested, Task, read, written
from hpsearch.programs.program import Program, UnreadyError
from hpsearch.space import range_from_json

CODE = """
import os, subprocess, sys, time

def objective(params, report, checkpoint=None, seed=None, epochs=None):
    what = params.get("what", "well")
    print("began", what, flush=True)
    if what == "child":
        subprocess.Popen(["sleep", "600"])
    for epoch in range(1, 4):
        report(params["x"] * epoch, epoch)
    if what == "raises":
        raise ValueError("no luck")
    if what == "dies":
        os._exit(7)
    if what == "exits":
        sys.exit(3)
    if what == "hangs":
        time.sleep(600)
    if what == "text":
        return "seven"
    if what == "known":
        return float(seed) + epochs
    return params["x"] * 10

def defined(trial):
    params = {
        "x": trial.suggest_float("x", 0.1, 10),
        "what": trial.suggest_categorical("what", ["well", "child", "raises", "dies", "exits", "hangs"]),
    }
    return objective(params, trial.report)

def other(params):
    return 1.0
"""

SCRIPT = """
import json, subprocess, sys, time
what, x = sys.argv[1], float(sys.argv[2])
print("began", what, flush=True)
if what == "child":
    subprocess.Popen(["sleep", "600"])
for epoch in range(1, 4):
    print(json.dumps({"epoch": epoch, "score": x * epoch}), flush=True)
if what == "raises":
    sys.exit("no luck")
if what == "dies":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
if what == "hangs":
    time.sleep(600)
print(json.dumps({"epoch": 4, "score": x * 10}), flush=True)
"""


@pytest.fixture(scope="module", params=["function", "command", "optuna"])
def served(request, tmp_path_factory):
    """One of each form for all tests, with its folder; its process takes trial after trial."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "thecode.py").write_text(CODE)
    (folder / "script.py").write_text(SCRIPT)
    if request.param == "function":
        trust("thecode")
        objective = ObjectiveConfig(function="thecode:objective")
    elif request.param == "optuna":
        trust("thecode")
        objective = ObjectiveConfig(function="thecode:defined", form="optuna")
    else:
        objective = ObjectiveConfig(command=(sys.executable, "script.py", "{what}", "{x}"), metric="score")
    made = Program(objective)
    yield made, folder
    made.end()


@pytest.fixture
def program(served, monkeypatch):
    made, folder = served
    monkeypatch.chdir(folder)
    (folder / "out.txt").unlink(missing_ok=True)
    return made


def heard(program, params, seconds=30):
    """What a trial says next, but for what it asks; that is answered."""
    while isinstance(event := program.next(seconds), Suggest):
        value, called = params[event.name], range_from_json(event.distribution)
        program.suggest(Suggested(called.values.index(value) if isinstance(called, Choice) else value))
    return event


def run(program, why_at=None, **params):
    """(reported, end) of a trial; told to end at the epoch `why_at`."""
    params = {"what": "well", "x": 2.0, **params}
    program.begin(Task(3, params, output="out.txt"))
    reported = []
    while True:
        event = heard(program, params)
        if not isinstance(event, Reported):
            return reported, event
        reported.append((event.epoch, event.value))
        program.answer("pruned" if event.epoch == why_at else "")


def test_values_come_as_they_are_reported_and_the_process_serves_on(program):
    for x in (2.0, 0.5):
        reported, end = run(program, x=x)
        assert reported[:3] == [(1, x), (2, 2 * x), (3, 3 * x)]
        assert end == Ended(10 * x)


def test_what_is_printed_is_in_the_trials_own_file(program, capfd):
    run(program)
    assert "began well" in Path("out.txt").read_text()
    assert capfd.readouterr().out == ""


def test_a_trial_that_raises_is_broken_and_the_next_one_is_not(program):
    _, end = run(program, what="raises")
    assert isinstance(end, Broken)
    assert "no luck" in end.reason + end.traceback
    assert run(program)[1] == Ended(20.0)


def test_a_process_that_dies_breaks_its_trial_alone(program):
    _, end = run(program, what="dies")
    assert isinstance(end, Broken)
    assert "ended with" in end.reason
    assert run(program)[1] == Ended(20.0)


def test_a_trial_that_is_told_to_end_leaves(program):
    reported, end = run(program, why_at=2)
    assert [epoch for epoch, _ in reported] == [1, 2]
    assert end == Left()
    assert run(program)[1] == Ended(20.0)


def test_a_trial_that_hangs_is_ended_with_all_that_it_has_started(program):
    program.begin(Task(0, child := {"what": "child", "x": 1.0}, output="out.txt"))
    while isinstance(heard(program, child), Reported):
        program.answer()
    program.begin(Task(1, hangs := {"what": "hangs", "x": 1.0}, output="out.txt"))
    for _ in range(3):
        assert isinstance(heard(program, hangs), Reported)
        program.answer()
    assert program.next(0.3) is None
    group = program._process.pid
    program.end()
    assert gone(group)
    assert run(program)[1] == Ended(20.0)


def test_the_process_ends_with_whoever_started_it(program):
    program.begin(Task(1, hangs := {"what": "hangs", "x": 1.0}, output="out.txt"))
    for _ in range(3):
        assert isinstance(heard(program, hangs), Reported)
        program.answer()
    group = program._process.pid
    os.close(program._sent)  # as the end of a worker does, whatever ended it
    assert program._process.wait(30) == -signal.SIGKILL
    assert gone(group)
    program._sent = os.open(os.devnull, os.O_WRONLY)
    program.end()


def gone(group):
    """Whether its processes end; they have been told to."""
    until = time.monotonic() + 30
    while members(group) and time.monotonic() < until:
        time.sleep(0.01)
    return not members(group)


def members(group):
    """Processes of a group that are not ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(process.name)
    return found


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(code, function="objective"):
        (tmp_path / "theirs.py").write_text(textwrap.dedent(code))
        trust("theirs")
        made.append(Program(ObjectiveConfig(function=f"theirs:{function}", seed=5)))
        return made[-1]

    made = []
    yield make
    for program in made:
        program.end()


@pytest.mark.parametrize(
    ("code", "function", "said"),
    [
        ("import nothing_like_it", "objective", "ModuleNotFoundError"),
        ("def objective(seed, params): return 1.0", "objective", "takes seed where it is given params"),
        ("def objective(): return 1.0", "objective", r"cannot be called as objective\(params, report\)"),
        ("def objective(params, seed, report): return 1.0", "objective", "missing a required argument: 'report'"),
        ("def objective(params, report, wanted): return 1.0", "objective", "wanted"),
        ("def objectives(params, report): return 1.0", "objective", "Did you mean 'objectives'"),
        ("raise SystemExit(2)", "objective", "SystemExit"),
        ("import os; os._exit(9)", "objective", "importing it ended the process: its process ended with exit code 9"),
    ],
)
def test_code_that_cannot_serve_is_refused_before_any_trial(module, code, function, said):
    with pytest.raises(UnreadyError, match=said):
        module(code, function).start()


HOW_CALLS_GO_WRONG = {
    "return 'seven'": "theirs:objective returned 'seven', not a number",
    "return None": "theirs:objective returned None, not a number",
    "return True": "theirs:objective returned True, not a number",
    "import sys; sys.exit(3)": "SystemExit: 3",
    "raise KeyError('lr')": "KeyError: 'lr'",
}


def test_how_a_call_goes_wrong_is_told(module):
    cases = "".join(f"    if params['x'] == {x}:\n        {body}\n" for x, body in enumerate(HOW_CALLS_GO_WRONG))
    program = module(f"def objective(params, report):\n{cases}")
    for x, (body, end) in enumerate(HOW_CALLS_GO_WRONG.items()):
        _, broken = run(program, x=x)
        assert isinstance(broken, Broken), body
        assert broken.reason == end


def test_a_function_is_given_what_it_has_arguments_for(module):
    program = module("""
        import numpy as np
        def objective(params, report, epochs, seed, *, checkpoint, device, trial):
            report(np.float32(1.5))
            report(2.5)
            assert checkpoint.name == "folder" and device == "cpu" and trial == 3
            return np.float64(epochs * 100 + seed)
    """)
    program.begin(Task(3, {}, epochs=4, seed=5, checkpoint="folder"))
    assert program.next(30) == Reported(1.5, 1)
    program.answer()
    assert program.next(30) == Reported(2.5, 2)
    program.answer()
    assert program.next(30) == Ended(405.0)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("params", 1.0),
        ("params, seed", 5.0),
        ("params, *, seed", 5.0),
        ("params, trial, seed=0", 5.0),
        ("params, /", 1.0),
    ],
)
def test_a_function_that_reports_nothing_needs_no_report(module, arguments, value):
    program = module(f"""
        def objective({arguments}):
            assert params == {{"x": 1.0}} and locals().get("trial", 3) == 3
            return locals().get("seed", params["x"])
    """)
    program.begin(Task(3, {"x": 1.0}, epochs=4, seed=5, checkpoint="folder"))
    assert program.next(30) == Ended(value)


def test_a_process_that_the_code_forks_says_nothing_for_it(module):
    program = module("""
        import os
        def objective(params, report):
            report(params["x"])
            os.fork()
            report(params["x"] + 1)
            return params["x"]
    """)
    for x in (1.0, 2.0, 3.0):
        assert run(program, x=x) == ([(1, x), (2, x + 1)], Ended(x))


def test_code_that_closes_our_descriptors_is_ended(module, monkeypatch):
    monkeypatch.setattr("hpsearch.programs.program.GRACE_SECONDS", 0.5)
    program = module("""
        import os, time
        def objective(params, report):
            if params["x"] > 2:
                os.closerange(3, 200)
                time.sleep(600)
            return params["x"]
    """)
    _, end = run(program, x=3.0)
    assert end == Broken("it has closed the descriptors through which it is heard")
    assert run(program, x=1.0)[1] == Ended(1.0)


@pytest.mark.slow
def test_a_search_that_begins_while_its_own_module_is_imported_is_refused(module):
    program = module("""
        import hpsearch
        def objective(params, report):
            return 1.0
        hpsearch.coarse({"objective": {"function": "theirs:objective"}, "space": {"x": {"log": [0.1, 1]}}})
    """)
    with pytest.raises(UnreadyError, match="begins while the module of an objective is imported"):
        program.start()


def test_an_end_that_the_code_passes_over_stays_one(module):
    program = module("""
        def objective(params, report):
            for _ in range(5):
                try:
                    report(1.0)
                except Exception:
                    pass
            return 7.0
    """)
    reported, end = run(program, why_at=1)
    assert (reported, end) == ([(1, 1.0)], Left())


@pytest.mark.parametrize("message", [Reported(float("nan"), 2), Ended(float("-inf")), Task(1, {"a": [1, "x"]})])
def test_messages_are_read_as_they_were_written(message):
    again = read(written(message))
    assert repr(again) == repr(message)
    assert b"NaN" not in written(message)
    json.loads(written(message))
