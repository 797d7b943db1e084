"""`hpsearch status --watch`: the page for planted studies, and the real command on terminals and without one."""

import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest
from rich.console import Console
from warm_commands import warm_commands

from hpsearch.analysis import attributes
from hpsearch.analysis.snapshots import Watcher
from hpsearch.cli.watch import Page, snapshot_line
from hpsearch.config import FloatRange
from hpsearch.results import EpochResult
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, find_study, open_database

SPACE = {"lr": FloatRange(1e-5, 1.0, log=True)}
STUDY = {
    attributes.STAGE: "coarse",
    attributes.CONFIG: {"coarse": {"epochs": 8}},
    attributes.DATASET: {"classes": 10},
}
EXPLOSION = {attributes.REASON: attributes.EXPLODED, attributes.EPOCH: 1}
NUM_TRIALS = 60


class Planted:
    """40 finished trials, of them the 10 with the highest rates exploded, 15 running ones and 5 that wait."""

    def __init__(self, folder, name="planted"):
        self.db = open_database(f"sqlite:///{folder}/studies/hpsearch.db", create=True)
        rates = [NewTrial({"lr": 10 ** (-5 + 5 * number / NUM_TRIALS)}) for number in range(NUM_TRIALS)]
        order = [*rates[:30], *rates[-10:], *rates[30:-10]]
        self.study = create_stage(self.db, name, "maximize", STUDY, SPACE, order)
        self.queue = Queue(self.db, self.study, "somehost-abc123/4711/deadbeef")
        leases = self.queue.take(40)
        for epoch in range(1, 9):
            self.record(leases[:30], epoch)
        self.queue.finish([Outcome(x, "COMPLETE", 0.9 + 0.001 * x.number) for x in leases[:30]])
        self.queue.finish([Outcome(x, "PRUNED", 0.0, EXPLOSION, (1, 0.0)) for x in leases[30:]])
        self.running = self.queue.take(15)
        for epoch in (1, 2, 3):
            self.record(self.running, epoch)

    def record(self, leases, epoch):
        acc = 0.2 + 0.09 * epoch
        self.queue.record([(x, EpochResult(x.number, epoch, 0.5, 0.5, acc, 0.5, acc, 1e-3, 0.1)) for x in leases])

    def finish(self):
        self.queue.finish([Outcome(lease, "COMPLETE", 0.95) for lease in self.running])
        self.queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in self.queue.take(NUM_TRIALS)])


@pytest.fixture
def planted(hpsearch):
    study = Planted(hpsearch.folder)
    yield study
    study.db.close()


def drawn(page, width, height):
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(page)
    return out.getvalue().splitlines()


def test_the_page_has_what_a_command_center_needs(planted):
    clock = iter(range(0, 100, 10))
    watcher = Watcher(planted.db, planted.study, lambda: next(clock))
    watcher.look()
    planted.record(planted.running, 4)
    page = Page(watcher.look())
    lines = drawn(page, 100, 60)
    text = "\n".join(lines)
    assert "40 of 60 trials x 8 epochs" in text
    assert "15 running · 5 waiting" in text
    assert "0 trials/min · 1.5 epochs/s" in text
    assert "left" in text
    assert "exploded 10 (25%)  over lr 1e-05 " in text
    [explosions] = [line for line in lines if line.startswith("exploded")]
    assert explosions.endswith("█ 1e+00")
    running = lines[next(i for i, line in enumerate(lines) if line.startswith("running")) :]
    assert [line.split()[0] for line in running[1:16]] == [str(number) for number in range(40, 55)]
    assert "4/8" in running[1]
    assert "somehost/4711" in running[1]
    best = lines[next(i for i, line in enumerate(lines) if line.lstrip().startswith("best")) :]
    assert [line.split()[0] for line in best[1:]] == [str(number) for number in range(29, 19, -1)]
    assert all("healthy" in line for line in best[1:])
    assert "▁▂▃▄▅▆▇█"[-1] in best[1]


@pytest.mark.parametrize(("width", "height"), [(200, 60), (100, 30), (80, 24), (60, 20), (40, 12)])
def test_the_page_fits_the_terminal(planted, width, height):
    lines = drawn(Page(Watcher(planted.db, planted.study).look(), note="the database does not answer"), width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 18)
    assert any(line.startswith("running") for line in lines)
    assert any(line.lstrip().startswith("best") for line in lines)
    assert ("somehost" in "".join(lines)) == (width >= 90)
    hidden = 15 - sum(line.strip()[:2] in map(str, range(40, 55)) for line in lines)
    assert (f"{hidden} more" in "".join(lines)) == bool(hidden)


def test_names_are_text(hpsearch):
    study = Planted(hpsearch.folder, name="[red]x[/red]")
    page = Page(Watcher(study.db, find_study(study.db, "[red]x[/red]")).look())
    assert drawn(page, 100, 40)[0].startswith("[red]x[/red]")
    assert snapshot_line(page.snapshot).startswith("[red]x[/red]: 40 of 60 trials, 15 running, 10 exploded")
    study.db.close()


def test_where_there_is_no_terminal_it_prints_a_line_per_look_until_the_study_is_done(hpsearch, planted):
    process = hpsearch.start_warm("status", "--watch", "--interval", "0.1")
    assert process.first_line().startswith("planted: 40 of 60 trials, 15 running, 10 exploded, best val_acc 0.9290")
    planted.finish()
    written, errors = process.communicate()
    assert written.splitlines()[-1].startswith("planted: 60 of 60 trials, 0 running")
    assert process.returncode == 0
    assert errors == ""


def test_as_json_each_line_is_a_document(hpsearch, planted):
    process = hpsearch.start_warm("status", "planted", "--watch", "--json", "--interval", "0.1")
    first = json.loads(process.first_line())
    assert (first["trials"], first["done"], len(first["running"])) == (60, False, 15)
    assert first["best"][0]["verdict"] == "healthy"
    planted.finish()
    last = [json.loads(line) for line in process.communicate()[0].splitlines()][-1]
    assert last["done"]
    assert process.returncode == 0


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_leaving_ends_the_watching_alone(hpsearch, planted, stop, code):
    process = hpsearch.start_warm("status", "--watch", "--interval", "0.1")
    process.first_line()
    process.send_signal(stop)
    assert "Traceback" not in process.communicate()[1]
    assert process.returncode == code
    assert Watcher(planted.db, planted.study).look().counts["RUNNING"] == 15


def in_a_terminal(line, *arguments, columns=100, rows=30):
    """The command on a pseudo-terminal; its exit code and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in line.environment.items() if name != "COLUMNS"}
    name, environment = os.ttyname(theirs), {**environment, "TERM": "xterm-256color"}
    process = warm_commands().start(list(arguments), line.folder, environment, terminal=name, keyboard=name)
    written = b""
    while (more := select.select([ours], [], [], 0.05)[0]) or not process.has_ended():
        written += os.read(ours, 65536) if more else b""
    os.close(theirs)
    os.close(ours)
    return process.wait(timeout=600).returncode, written.decode()


def test_on_a_terminal_a_finished_study_is_shown_and_left(hpsearch, planted):
    planted.finish()
    code, written = in_a_terminal(hpsearch, "status", "planted", "--watch")
    assert code == 0
    last = written.rpartition("\x1b[?1049l")[2]  # after the screen is as it was before
    assert "60 of 60 trials x 8 epochs" in last
    assert "nothing waits or runs any more" in last


@pytest.mark.slow
def test_watching_imports_nothing_heavy(hpsearch, planted):
    planted.finish()
    code = (
        "import sys; from hpsearch.__main__ import main\n"
        "sys.argv = ['hpsearch', 'status', 'planted', '--watch']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'optuna', 'sklearn', 'scipy', 'plotly') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=hpsearch.folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
