"""Results on disk for as long as the database is away: one JSON line each, read again by whoever comes next.

A spool belongs to one worker, after which its file is called: when the worker is dead, its results are written under
its own leases, so that a trial that has gone to somebody else meanwhile is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from hpsearch.errors import StudyNotFoundError
from hpsearch.logs import get_logger
from hpsearch.results import EpochResult
from hpsearch.storage import Database, Lease, Outcome, Queue, find_study, is_dead

log = get_logger(__name__)

Recorded = Sequence[tuple[Lease, EpochResult]]


class Spool:
    """The file of one worker; there only while something waits in it."""

    def __init__(self, folder: Path, study: str, worker: str) -> None:
        self.path = folder / f"{quote(worker, safe='')}.jsonl"
        self._head = {"study": study, "worker": worker}
        self._is_there = False
        self.problem: str | None = None
        """Why the last results could not be appended; None where they could."""

    @property
    def is_there(self) -> bool:
        """Whether something waits in it."""
        return self._is_there

    def add(self, recorded: Recorded = (), finished: Sequence[Outcome] = ()) -> bool:
        """Append results; whether that was possible. On a full disk nothing of them is left in the file."""
        if not recorded and not finished:
            return True
        line = {
            **self._head,
            "recorded": [[_lease(lease), result.as_plain()] for lease, result in recorded],
            "finished": [_outcome(outcome) for outcome in finished],
        }
        size = self.path.stat().st_size if self._is_there else 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            self.problem = f"{self.path} cannot be written: {error.strerror}{_free(self.path.parent)}"
            self._cut(size)
            return False
        self._is_there = True
        self.problem = None
        return True

    def clear(self) -> None:
        """All of it is in the database."""
        if self._is_there:
            self.path.unlink(missing_ok=True)
            self._is_there = False

    def _cut(self, size: int) -> None:
        """Take back half a line, to which the next one would be appended."""
        with contextlib.suppress(OSError):
            if size:
                os.truncate(self.path, size)
            else:
                self.path.unlink(missing_ok=True)


def recover(db: Database, folder: Path) -> int:
    """Write what dead workers of this host left in their spools; returns the number of trials finished so."""
    num_finished = 0
    for path in sorted(folder.glob("*.jsonl")):
        try:
            if not is_dead(unquote(path.stem)):  # an empty file, too: its worker may be about to write
                continue
            for line in _lines(path):
                num_finished += _write(db, line)
        except FileNotFoundError:  # another process was faster
            continue
        except StudyNotFoundError as error:
            log.warning("the spool %s is of another database: %s", path, str(error).splitlines()[0])
            continue
        path.unlink(missing_ok=True)
    return num_finished


def _write(db: Database, line: dict[str, Any]) -> int:
    queue = Queue(db, find_study(db, line["study"]), line["worker"])
    recorded = [(Lease(*lease), EpochResult.of_plain(result)) for lease, result in line["recorded"]]
    outcomes = [
        Outcome(Lease(*o["lease"]), o["state"], o["value"], o["attrs"], tuple(o["last"]) if o["last"] else None)
        for o in line["finished"]
    ]
    queue.record(recorded)
    return len(outcomes) - len(queue.finish(outcomes))


def _free(folder: Path) -> str:
    with contextlib.suppress(OSError):  # the folder could not be made
        return f"; free on that disk: {shutil.disk_usage(folder).free:,} bytes"
    return ""


def _lines(path: Path) -> list[dict[str, Any]]:
    """A line cut off by the end of its worker is left out: its trial will be trained again."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return lines


def _lease(lease: Lease) -> list[int]:
    return [lease.trial_id, lease.number, lease.attempt]


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "lease": _lease(outcome.lease),
        "state": outcome.state,
        "value": outcome.value,
        "attrs": dict(outcome.attrs),
        "last": outcome.last,
    }
