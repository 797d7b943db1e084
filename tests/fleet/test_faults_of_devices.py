"""Rows of the fault matrix that a GPU or a disk raises, put into real processes by hand."""

import re

import pytest
from fleet_at_work import wait_for

SITECUSTOMIZE = """
import os
import sys
from pathlib import Path

FOLDER = Path({folder!r})


def poison(original):
    def run_epoch(self):
        try:
            (FOLDER / "poisoned").touch(exist_ok=False)
        except FileExistsError:
            return original(self)
        raise RuntimeError("CUDA error: device-side assert triggered")

    return run_epoch


def too_little_memory(original):
    def run_epoch(self):
        if len(self.numbers) > 1:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self)

    return run_epoch


if "coarse" in sys.orig_argv or any("forkserver" in word for word in sys.orig_argv):
    from hpsearch.training import Pack

    COMMAND, run_epoch = os.getpid(), Pack.run_epoch
    with_fault = {fault}(run_epoch)
    # Not in the command, which checks the net before.
    Pack.run_epoch = lambda self: (run_epoch if os.getpid() == COMMAND else with_fault)(self)
"""

FULL_DISK = """
import sqlite3.dbapi2
from pathlib import Path

MARKER = Path({marker!r})


class Limited(sqlite3.Connection):
    def cursor(self, *arguments):
        pages = 1 if MARKER.exists() else 2**30  # which SQLite takes as: no more than there are
        super().cursor().execute(f"PRAGMA max_page_count = {{pages}}")
        return super().cursor(*arguments)


_connect = sqlite3.dbapi2.connect
sqlite3.dbapi2.connect = lambda *arguments, **options: _connect(*arguments, factory=Limited, **options)
"""


def put_fault(fleet, fault):
    (fleet.folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(folder=str(fleet.folder), fault=fault))
    return {"PYTHONPATH": str(fleet.folder)}


@pytest.mark.slow
def test_a_device_side_assert_replaces_the_worker(sqlite_fleet, undisturbed):
    """The process in which CUDA failed works no more; its trials go on in another one."""
    fleet = sqlite_fleet
    _, errors = fleet.finish(fleet.coarse("--workers", "2", **put_fault(fleet, "poison")))
    assert (fleet.folder / "poisoned").exists()
    assert "worker died (a device that refuses further work)" in errors
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert max(attempt for _, _, attempt, _ in fleet.leases()) == 2


@pytest.mark.slow
def test_out_of_memory_in_a_pack_halves_it_in_every_worker(sqlite_fleet, undisturbed):
    fleet = sqlite_fleet
    _, errors = fleet.finish(fleet.coarse("--workers", "2", **put_fault(fleet, "too_little_memory")))
    assert re.search(r"out of memory: pack 3 -> 2", errors)
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert {attempt for _, _, attempt, _ in fleet.leases()} == {1}


@pytest.mark.slow
def test_a_disk_full_of_studies_is_waited_for(sqlite_fleet, undisturbed):
    """Training goes on, path and free bytes are shown, earlier results can be read, and nothing is lost."""
    fleet = sqlite_fleet
    marker = fleet.folder / "full"
    held = fleet.held()
    with (fleet.folder / "sitecustomize.py").open("a") as file:
        file.write(FULL_DISK.format(marker=str(marker)))
    process = fleet.coarse(**held)
    fleet.a_running_worker()
    marker.touch()
    fleet.go()
    spool = fleet.folder / "studies" / "artifacts" / "spool"
    wait_for(lambda: list(spool.glob("*.jsonl")) or process.poll() is not None, "results that wait on disk")
    assert process.poll() is None
    assert len(fleet.trials()) == 12
    marker.unlink()
    _, errors = fleet.finish(process)
    assert re.search(r"no room to write \S+studies\.db\. Free on that disk: [\d,]+ bytes", errors)
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert not list(spool.glob("*.jsonl"))
