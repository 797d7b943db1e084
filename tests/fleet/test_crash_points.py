"""SIGKILL at named points of a worker's life, each before or after one call; the same command goes on."""

import pytest

CRASH = """
import importlib, os, signal, sys
from pathlib import Path

module, name, when, count = {module!r}, {name!r}, {when!r}, {count}
marker = Path({marker!r})
if not marker.exists():
    found = importlib.import_module(module)
    *path, last = name.split(".")
    owner = found
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, last), []

    def crash():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def replacement(*arguments, **options):
        calls.append(1)
        if when == "before" and len(calls) == count:
            crash()
        result = original(*arguments, **options)
        if when == "after" and len(calls) == count:
            crash()
        return result

    setattr(owner, last, replacement)
    for other in list(sys.modules.values()):  # those that have imported the function by its name
        if getattr(other, last, None) is original:
            setattr(other, last, replacement)
"""

POINTS = {
    "a study created, nothing taken": ("hpsearch.storage.studies", "create_stage", "after", 1),
    "trials taken": ("hpsearch.storage.queue", "Queue.take", "after", 2),
    "an epoch about to be recorded": ("hpsearch.storage.queue", "Queue.record", "before", 70),
    "an epoch recorded": ("hpsearch.storage.queue", "Queue.record", "after", 70),
    "inside the transaction that ends trials": ("hpsearch.storage.queue", "extend", "before", 80),
    "trials about to be ended": ("hpsearch.storage.queue", "Queue.finish", "before", 2),
    "trials ended": ("hpsearch.storage.queue", "Queue.finish", "after", 2),
    "tensors of a checkpoint written, not announced": ("hpsearch.training.checkpoints", "replacing", "before", 62),
    "a checkpoint written": ("hpsearch.training.checkpoints", "Checkpoints.save", "after", 31),
    "checkpoints about to be removed": ("hpsearch.training.checkpoints", "Checkpoints.remove", "before", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_sigkill_at_a_crash_point(fleet, undisturbed, point):
    module, name, when, count = POINTS[point]
    marker = fleet.folder / "crashed"
    script = CRASH.format(module=module, name=name, when=when, count=count, marker=str(marker))
    (fleet.folder / "sitecustomize.py").write_text(script)
    process = fleet.coarse(PYTHONPATH=str(fleet.folder))
    fleet.finish(process, code=-9)
    assert marker.exists()
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
