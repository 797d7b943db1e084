"""Real worker processes, real databases, and the invariants that hold after every fault (none of them is a mock)."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from held_searches import PATIENCE, Command, go, hold, wait_for, wait_until_held, wait_until_told
from warm_commands import warm_commands

from hpsearch.storage import find_study, open_database, read_epochs, read_trials

EPOCHS = 12
STUDY = f"""
[data]
source = "synthetic"
synthetic = {{ shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }}
[model]
hidden = [6]
[train]
batch_size = 20
precision = "float64"
[space]
lr = {{ log = [1e-3, 1e-1] }}
reg = {{ log = [1e-5, 1e-1] }}
[coarse]
trials = 12
epochs = {EPOCHS}
"""


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def parent(pid: int) -> int:
    return int(_stat(pid)[1])


def is_gone(pid: int) -> bool:
    try:
        return _stat(pid)[0] == "Z"  # dead, and nobody has asked for its exit code
    except (FileNotFoundError, ProcessLookupError):
        return True


class Fleet:
    """A search in an empty folder on one database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "study.toml").write_text(STUDY)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        self.environment |= {
            "HPSEARCH_STORAGE": url,
            "HPSEARCH_RUN__WIDTH": "3",
            "HPSEARCH_RUN__THREADS": "1",
            "HPSEARCH_RUN__CHECKPOINT_SECONDS": "0",
            "HPSEARCH_RUN__KEEP": "none",
            "OMP_NUM_THREADS": "1",
        }
        self.processes: list[Command | subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> Command:
        """A command in a process, session and process group of its own, which has torch already."""
        whole = {**self.environment, **self._with_path(environment)}
        process = Command(arguments, self.folder, whole)
        self.processes.append(process)
        return process

    def start_interpreter(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """The same by an interpreter that has imported nothing."""
        process = subprocess.Popen(
            [sys.executable, "-m", "hpsearch", *arguments],
            cwd=self.folder,
            env={**self.environment, **self._with_path(environment)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def _with_path(self, environment: dict[str, str]) -> dict[str, str]:
        if "PYTHONPATH" in environment and (inherited := os.environ.get("PYTHONPATH")):
            environment["PYTHONPATH"] += os.pathsep + inherited  # where hpsearch itself may be
        return environment

    def coarse(self, *arguments: str, **environment: str) -> Command:
        return self.start("coarse", "-c", "study.toml", *arguments, **environment)

    def run(self, *arguments: str, code: int = 0) -> "tuple[str, str]":
        """A command that nobody signals or kills: in a process that has torch already. What it prints."""
        done = warm_commands().run(arguments, self.folder, self.environment, timeout=PATIENCE)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def held(self, after: int = 3) -> dict[str, str]:
        """An environment in which workers report so many epochs of a pack, and wait in the next one for `go`."""
        hold(self.folder, after)
        return {"PYTHONPATH": str(self.folder)}

    def go(self) -> None:
        go(self.folder)

    def wait_until_held(self) -> None:
        wait_until_held(self.folder)

    def wait_until_told(self, number: int = 1) -> None:
        wait_until_told(self.folder, number)

    def finish(self, process: "Command | subprocess.Popen[str]", code: int = 0) -> "tuple[str, str]":
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        return out, err

    def trials(self, study: str = "coarse"):
        db = open_database(self.url)
        try:
            return read_trials(db, find_study(db, study))
        except Exception:  # not there yet
            return []
        finally:
            db.close()

    def leases(self):
        db = open_database(self.url)
        try:
            with db.read() as connection:
                rows = connection.execute(
                    sa.text(
                        "SELECT t.number, l.worker, l.attempt, t.state FROM hpsearch_leases l"
                        " JOIN trials t ON t.trial_id = l.trial_id ORDER BY t.number"
                    )
                )
                return [tuple(row) for row in rows]
        finally:
            db.close()

    def holders(self):
        """Ids of trials, of all studies, each with the worker that holds it."""
        db = open_database(self.url)
        try:
            with db.read() as connection:
                rows = connection.execute(sa.text("SELECT trial_id, worker FROM hpsearch_leases"))
                return [tuple(row) for row in rows]
        finally:
            db.close()

    def running_workers(self):
        """Process ids of those who hold a trial that has reported an epoch; none where there is no database yet."""
        query = (
            "SELECT DISTINCT l.worker FROM hpsearch_leases l JOIN trials t ON t.trial_id = l.trial_id"
            " JOIN hpsearch_epochs e ON e.trial_id = t.trial_id"
            " WHERE CAST(t.state AS TEXT) = 'RUNNING' AND l.worker IS NOT NULL"
        )
        with contextlib.suppress(Exception), contextlib.closing(open_database(self.url)) as db, db.read() as connection:
            return [int(worker.split("/")[1]) for (worker,) in connection.execute(sa.text(query))]
        return []

    def a_running_worker(self, other_than=()):
        return wait_for(lambda: set(self.running_workers()) - set(other_than), "a worker in mid-trial").pop()

    def wait_for_workers(self, number: int) -> "list[int]":
        """Process ids of so many workers in mid-trial."""
        return wait_for(lambda: len(found := self.running_workers()) >= number and found, f"{number} workers")

    def stop_between_transactions(self, pid: int) -> None:
        """Nobody can take the lock of a SQLite file from a process that is stopped while it writes."""

        def look():
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: _stat(pid)[0] == "T", "the stop")
            if self._can_write():
                return True
            os.kill(pid, signal.SIGCONT)
            return False

        wait_for(look, "a moment between two transactions")

    def _can_write(self) -> bool:
        if not self.url.startswith("sqlite"):
            return True  # a server ends such a transaction
        with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    def values(self, study: str = "coarse"):
        db = open_database(self.url)
        try:
            row = find_study(db, study)
            epochs = read_epochs(db, row)
            return [
                (trial.number, trial.state, trial.value, [point.val_acc for point in epochs.get(trial.number, [])])
                for trial in read_trials(db, row)
            ]
        finally:
            db.close()

    def assert_invariants(self, num_trials: int = 12, study: str = "coarse"):
        trials = self.trials(study)
        assert [trial.number for trial in trials] == list(range(num_trials))
        for trial in trials:
            assert trial.state in ("COMPLETE", "PRUNED", "FAIL"), trial
            if trial.state == "COMPLETE":
                assert trial.value is not None
                assert list(trial.intermediate) == list(range(1, EPOCHS + 1))
            elif trial.state == "PRUNED":
                assert trial.attrs["reason"]
                assert trial.attrs["epoch"]
        assert len({number for number, *_ in self.leases()}) == len(self.leases())

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
