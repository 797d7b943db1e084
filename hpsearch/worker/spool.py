"""Results on disk for as long as the database is away: one JSON line each, read again by whoever comes next.

A spool belongs to one worker, whose name stands in every line: when the worker is dead, its results are written under
its own leases, so that a trial that has gone to somebody else meanwhile is left alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpsearch.errors import StudyNotFoundError
from hpsearch.logs import get_logger
from hpsearch.results import EpochResult
from hpsearch.storage import Database, Lease, Outcome, Queue, find_study, is_dead

log = get_logger(__name__)

Recorded = Sequence[tuple[Lease, EpochResult]]


class Spool:
    """The file of one worker; there only while something waits in it."""

    def __init__(self, folder: Path, study: str, worker: str) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.jsonl"
        self._head = {"study": study, "worker": worker}
        self._is_there = False

    def add(self, recorded: Recorded = (), finished: Sequence[Outcome] = ()) -> None:
        """Append results; a full disk is logged, since the results are still in memory."""
        if not recorded and not finished:
            return
        line = {
            **self._head,
            "recorded": [[_lease(lease), result.as_plain()] for lease, result in recorded],
            "finished": [_outcome(outcome) for outcome in finished],
        }
        try:
            self._is_there = True
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            log.warning("results cannot be spooled to %s: %s", self.path, error.strerror)

    def clear(self) -> None:
        """All of it is in the database."""
        if self._is_there:
            self.path.unlink(missing_ok=True)
            self._is_there = False


def recover(db: Database, folder: Path) -> int:
    """Write what dead workers of this host left in their spools; returns the number of trials finished so."""
    num_finished = 0
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if _whole(text)]
            if lines and not is_dead(lines[0]["worker"]):
                continue
            for line in lines:
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


def _whole(text: str) -> bool:
    """A line cut off by the end of its worker is left out: its trial will be trained again."""
    return text.endswith("}")


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
