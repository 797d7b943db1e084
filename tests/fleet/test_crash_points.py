"""SIGKILL at named points of a worker's life, each before or after one call; the same command goes on."""

import pytest

CRASH = """
import importlib, os, signal, sys
from pathlib import Path

module, name, when, count, counts = {module!r}, {name!r}, {when!r}, {count}, lambda arguments: {counts}
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
        if not counts(arguments):
            return original(*arguments, **options)
        calls.append(1)
        if when == "before" and len(calls) == count:
            crash()
        result = original(*arguments, **options)
        if when == "after" and len(calls) == count:
            crash()
        return result

    setattr(owner, last, replacement)
    ours = [other for other in sys.modules.values() if getattr(other, "__name__", "").startswith("hpsearch")]
    for other in ours:  # those that have imported the function by its name
        if getattr(other, last, None) is original:
            setattr(other, last, replacement)
"""

# Each of four packs of three trials records 12 times, and ends once. How many checkpoints are written depends on how
# fast: a newer state takes the place of one that waits, so those are counted in the first epochs.
POINTS = {
    "a study created, nothing taken": ("hpsearch.storage.creation", "create_stage", "after", 1),
    "trials taken": ("hpsearch.storage.queue", "Queue.take", "after", 2),
    "an epoch about to be recorded": ("hpsearch.storage.queue", "Queue.record", "before", 18),
    "inside the transaction that records": ("hpsearch.storage.queue", "_intermediate_row", "before", 53),
    "an epoch recorded": ("hpsearch.storage.queue", "Queue.record", "after", 18),
    "trials about to be ended": ("hpsearch.storage.queue", "Queue.finish", "before", 2),
    "inside the transaction that ends trials": (
        *("hpsearch.storage.queue", "extend", "before", 2),
        "arguments[-1] is None",  # not the renewals, of which there are the more the longer it takes
    ),
    "trials ended": ("hpsearch.storage.queue", "Queue.finish", "after", 2),
    "tensors of a checkpoint written, not announced": ("hpsearch.training.checkpoints", "replacing", "before", 12),
    "a checkpoint written": ("hpsearch.training.checkpoints", "Checkpoints.save", "after", 5),
    "checkpoints about to be removed": ("hpsearch.training.checkpoints", "Checkpoints.remove", "before", 2),
}


# Between two transactions a kill leaves the same rows in every database; what was inside of one each takes back itself.
POSTGRES = ("trials taken", "inside")


def on_storages(points, postgres):
    """Each point on SQLite, and on Postgres those whose names begin so."""
    marks = [pytest.mark.postgres, pytest.mark.slow]
    there = [pytest.param("postgres", point, marks=marks) for point in points if point.startswith(postgres)]
    return [*(("sqlite", point) for point in points), *there]


def will_crash(fleet, point):
    """An environment in which a command is killed there, once, and the file that says that it was.

    A point is a module, a name in it, before or after which call, and, if not all calls count, those that do.
    """
    (module, name, when, count), (counts,) = point[:4], point[4:] or ("True",)
    marker = fleet.folder / "crashed"
    script = CRASH.format(module=module, name=name, when=when, count=count, counts=counts, marker=str(marker))
    (fleet.folder / "sitecustomize.py").write_text(script)
    return {"PYTHONPATH": str(fleet.folder)}, marker


@pytest.mark.slow
@pytest.mark.parametrize(("fleet", "point"), on_storages(POINTS, POSTGRES), indirect=["fleet"])
def test_sigkill_at_a_crash_point(fleet, undisturbed, point):
    environment, marker = will_crash(fleet, POINTS[point])
    fleet.finish(fleet.coarse(**environment), code=-9)
    assert marker.exists()
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
