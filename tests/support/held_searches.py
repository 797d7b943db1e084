"""Searches that are held in the midst of a trial until a test has done to them what it wants to.

A signal, a kill or an outage that is only sent soon may come after the work is over: on a loaded machine it does.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

from warm_commands import warm_commands

PATIENCE = 600.0  # seconds; a bound against hanging, not an expectation
HOLD = """
import os, sys, time
from pathlib import Path

FOLDER = Path({folder!r})

if sys.orig_argv[1:3] == ["-m", "hpsearch"] or any("forkserver" in each for each in sys.orig_argv):
    from hpsearch.worker.pack_run import PackRun
    from hpsearch.worker.stopping import Stop

    _init, _request, num_packs = PackRun.__init__, Stop.request, 0

    def hold(self, pack, *arguments, **options):  # not the packs with which the command checks the net before
        global num_packs
        num_packs += 1
        until = time.monotonic() + {patience}

        def held(run_epoch=pack.run_epoch, may_pass=num_packs <= {packs}):
            while not may_pass and pack.epoch >= {after} and not (FOLDER / "go").exists():
                (FOLDER / f"{{os.getpid()}}.held").touch()
                assert time.monotonic() < until
                time.sleep(0.005)
            return run_epoch()

        pack.run_epoch = held
        _init(self, pack, *arguments, **options)

    def told(self, signum=None):
        _request(self, signum)
        (FOLDER / f"{{os.getpid()}}.told").touch()

    PackRun.__init__, Stop.request = hold, told
"""


def hold(folder: Path, after: int = 3, packs: int = 0) -> dict[str, str]:
    """Environment of commands in this folder whose processes report so many epochs of a pack, and wait in the next one.

    So many packs of each process pass before.
    """
    (folder / "go").unlink(missing_ok=True)
    code = HOLD.format(folder=str(folder), after=after, packs=packs, patience=PATIENCE)
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def go(folder: Path) -> None:
    (folder / "go").touch()


def wait_until_held(folder: Path) -> None:
    """A process trains no further."""
    wait_for(lambda: list(folder.glob("*.held")), "a search in mid-trial")


def wait_until_told(folder: Path, number: int = 1) -> None:
    """So many processes know that they should stop."""
    wait_for(lambda: len(list(folder.glob("*.told"))) >= number, "a word of the signal")


def wait_for(condition, what):
    """Poll until the condition gives something true; it is returned."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


class Command:
    """A warm command in a session and process group of its own, with the face of `subprocess.Popen`."""

    def __init__(self, arguments, folder, environment):
        self._warm = warm_commands().start(list(map(str, arguments)), folder, environment, new_session=True)
        self._done = None
        self.pid = self._warm.pid

    @property
    def returncode(self):
        return None if self._done is None else self._done.returncode

    def poll(self):
        return self._end() if self._done is None and self._warm.has_ended() else self.returncode

    def communicate(self, timeout=PATIENCE):
        if self._done is None and not self._warm.has_ended(timeout):
            raise subprocess.TimeoutExpired(self._warm.arguments, timeout)
        self._end()
        return self._done.stdout, self._done.stderr

    def first_line(self):
        """Of what it prints, as soon as it is there."""
        return self._warm.first_line(PATIENCE)

    def errors(self):
        """What it has written on stderr until now."""
        return self._warm.errors() if self._done is None else self._done.stderr

    def send_signal(self, signum):
        os.kill(self.pid, signum)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _end(self):
        if self._done is None:
            self._done = self._warm.wait()
        return self._done.returncode
