"""How the words of a program are filled in, and its values read."""

import os
import sys

import pytest

from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.usercode import UserCodeError
from hpsearch.programs.command import KilledError, filled_in, run_command
from hpsearch.programs.messages import Task
from hpsearch.programs.value_pattern import value_of


def printing(*lines, **keys):
    return ObjectiveConfig(command=(sys.executable, "-c", f"print({chr(10).join(lines)!r})"), **keys)


def values(objective, task=None):
    reported = []
    best = run_command(objective, task or Task(0), lambda value, epoch: reported.append((value, epoch)))
    return best, reported


def test_names_in_braces_are_values():
    objective = ObjectiveConfig(
        command=("train", "--lr={lr}", "{model.width}", "--flip", "{flip}", "{sizes}", "{epochs}", "{seed}", "{trial}")
    )
    params = {"lr": 1e-4, "model.width": 64, "flip": True, "sizes": [3, 5]}
    words = filled_in(objective, Task(7, params, epochs=2, seed=9))
    assert words == ["train", "--lr=0.0001", "64", "--flip", "true", "3,5", "2", "9", "7"]


@pytest.mark.parametrize(
    ("lines", "keys", "best", "reported"),
    [
        (('{"v": 1, "epoch": 3}', "text", '{"v": 4}', '{"w": 9}'), {"metric": "v"}, 4.0, [(1.0, 3), (4.0, None)]),
        (('{"v": 1}', '{"v": true}', '{"v": "2"}', "{broken"), {"metric": "v"}, 1.0, [(1.0, None)]),
        (('{"loss": 3.0}', '{"loss": 2.0}'), {"metric": "m", "key": "loss", "direction": "minimize"}, 2.0, None),
        (("acc=0.5 at 1", "acc=0.75", "ac=0.9"), {"pattern": r"acc=([0-9.]+)"}, 0.75, [(0.5, None), (0.75, None)]),
        (("loss nan", "loss 2.5e-3"), {"pattern": r"loss (\S+)", "direction": "minimize"}, 0.0025, None),
        (("10%\racc=0.5\r20%\racc=0.6", "acc=0.4"), {"pattern": r"acc=([0-9.]+)"}, 0.6, [(0.6, None), (0.4, None)]),
        (("7: 0.5", "8: 0.25", "x: 1"), {"pattern": r"(?P<epoch>.): ([0-9.]+)"}, 0.5, [(0.5, 7), (0.25, 8)]),
    ],
)
def test_the_best_of_what_is_printed_is_the_value(lines, keys, best, reported, capfd):
    found = values(printing(*lines, **keys))
    assert found[0] == best
    assert reported is None or found[1] == reported


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (printing("nothing", metric="acc"), r'gave no value.\nIts output has no line of JSON with {"acc": NUMBER}'),
        (printing("nothing", pattern="acc=(.)"), r"gave no value.\nNo line of its output fits 'acc=\(.\)'"),
        (ObjectiveConfig(command=("no-such-program",)), "'no-such-program' cannot be started: No such file"),
        (ObjectiveConfig(command=(sys.executable, "-c", "raise SystemExit('sad')")), "exit code 1.\nsad"),
    ],
)
def test_a_program_without_a_value_has_failed(objective, said, capfd):
    with pytest.raises(UserCodeError, match=said):
        values(objective)


def test_a_program_that_is_killed_is_told_from_one_that_fails(capfd):
    killed = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(KilledError, match="signal 9"):
        values(ObjectiveConfig(command=(sys.executable, "-c", killed)))


def test_a_file_that_the_program_writes_is_read_instead(tmp_path, capfd):
    code = "import sys; f=open(sys.argv[1],'a'); [print('{\"v\": %d}' % n, file=f, flush=True) for n in (3, 8)]"
    objective = ObjectiveConfig(
        command=(sys.executable, "-c", code, "{checkpoint}/log.jsonl"), metric="v", file="{checkpoint}/log.jsonl"
    )
    (tmp_path / "log.jsonl").write_text('{"v": 99}\n')  # of an attempt before
    assert values(objective, Task(0, checkpoint=str(tmp_path))) == (8.0, [(3.0, None), (8.0, None)])


def test_a_file_that_is_written_anew_is_read_from_its_start(tmp_path, capfd):
    code = "import sys; f=open(sys.argv[1],'w'); [print('{\"v\": %d}' % n, file=f, flush=True) for n in (3, 8)]"
    objective = ObjectiveConfig(
        command=(sys.executable, "-c", code, "{checkpoint}/log.jsonl"), metric="v", file="{checkpoint}/log.jsonl"
    )
    (tmp_path / "log.jsonl").write_text('{"v": 99}\n' * 20)
    assert values(objective, Task(0, checkpoint=str(tmp_path))) == (8.0, [(3.0, None), (8.0, None)])


def test_what_an_earlier_attempt_said_counts(capfd):
    task = Task(0, earlier=((1, 0.9), (2, 0.4)))
    assert values(printing('{"v": 0.5}', metric="v"), task)[0] == 0.9


def test_a_worker_s_gpu_is_the_only_one_that_its_program_sees(capfd):
    code = "import os; print('v=%s' % os.environ['CUDA_VISIBLE_DEVICES'])"
    objective = ObjectiveConfig(command=(sys.executable, "-c", code), pattern="v=(.*)")
    assert values(objective, Task(0, device="cuda:3"))[0] == 3.0


def test_gpus_are_counted_among_those_that_are_visible(capfd, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    code = "import os, sys; print('v=%s' % os.environ['CUDA_VISIBLE_DEVICES'], 'on', sys.argv[1])"
    objective = ObjectiveConfig(command=(sys.executable, "-c", code, "{device}"), pattern="v=(.) on cuda:0")
    seen = [values(objective, Task(0, device=f"cuda:{worker}"))[0] for worker in (0, 1)]
    assert seen == [2.0, 3.0]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_bar_that_is_drawn_over_is_one_report(capfd):
    """As tqdm writes it, with a program's own epochs: pieces may end anywhere."""
    code = (
        "import sys, time\n"
        "for epoch in (3, 4):\n"
        "    for step in range(1, 5):\n"
        "        sys.stdout.write(f'\\repoch {epoch}: {25 * step}%|## | {step}/4 [00:00, acc=0.{epoch}{step}]')\n"
        "        sys.stdout.flush()\n"
        "    print()\n"
    )
    bar = (sys.executable, "-c", code)
    counted = ObjectiveConfig(command=bar, pattern="acc=([0-9.]+)")
    assert values(counted) == (0.44, [(0.34, None), (0.44, None)])
    named = ObjectiveConfig(command=bar, pattern="epoch (?P<epoch>[0-9]+): .*acc=([0-9.]+)")
    assert values(named) == (0.44, [(0.34, 3), (0.44, 4)])


@pytest.mark.parametrize("pattern", ["acc", "(a)(b)", "(?P<epoch>[0-9]+)"])
def test_a_pattern_has_one_value(pattern):
    with pytest.raises(ValueError, match=r"with one group in parentheses.*\(\?P<epoch>"):
        ObjectiveConfig(command=("train",), pattern=pattern)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("val_acc=([0-9.]+)", "val_acc"),
        (r"epoch (?P<epoch>\d+)/\d+ .* val_acc: (\S+)", "val_acc"),
        (r"loss (\S+) epoch (?P<epoch>\d+)", "loss"),
        (r"(?P<epoch>\d+) (\S+)", "value"),
    ],
)
def test_what_a_value_is_called_is_read_off_its_pattern(metric, name):
    assert value_of(metric) == (name, metric)
