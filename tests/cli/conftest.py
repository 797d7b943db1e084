import json
import os
import subprocess
import sys

import pytest
from held_searches import Command, hold
from warm_commands import warm_commands

TINY_STUDY = """
[data]
source = "synthetic"
synthetic = { shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }
[model]
hidden = [6]
[train]
batch_size = 20
[coarse]
trials = 12
epochs = 2
[fine]
trials = 6
epochs = 3
"""


class CommandLine:
    """Runs `hpsearch` as a process in an empty folder."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        self.environment.update(OMP_NUM_THREADS="1", HPSEARCH_RUN__THREADS="1", COLUMNS="200")

    def command(self, *arguments):
        return [sys.executable, "-m", "hpsearch", *map(str, arguments)]

    def __call__(self, *arguments, code=0, stdin=None, interpreter=False, **environment):
        if "PYTHONPATH" in environment and (inherited := os.environ.get("PYTHONPATH")):
            environment["PYTHONPATH"] += os.pathsep + inherited  # where hpsearch itself may be
        whole = {**self.environment, **environment}
        if interpreter:
            options = {"input": stdin, "capture_output": True, "text": True, "timeout": 600}
            done = subprocess.run(self.command(*arguments), cwd=self.folder, env=whole, **options)
        else:
            done = warm_commands().run(list(map(str, arguments)), self.folder, whole, stdin, timeout=600)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options).stdout)

    def script(self, *arguments):
        """`python SCRIPT ...`, where hpsearch cannot be imported and warnings are errors."""
        done = warm_commands().run_script(list(map(str, arguments)), self.folder, self.environment, timeout=600)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def held(self, *arguments, after=3, packs=0):
        """One that waits in an epoch until the test lets it go on: see `held_searches`."""
        return Command(arguments, self.folder, {**self.environment, **hold(self.folder, after, packs)})

    def start_warm(self, *arguments):
        return Command(arguments, self.folder, self.environment)

    def start(self, *arguments):
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def command_line():
    """For fixtures that make a folder of their own."""
    return CommandLine


@pytest.fixture(scope="session")
def tiny_study():
    """The text of a study file, for the same."""
    return TINY_STUDY


@pytest.fixture
def hpsearch(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY_STUDY)
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder in which the tiny search has run, coarse and fine; tests only read it."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "tiny.toml").write_text(TINY_STUDY)
    line = CommandLine(folder)
    line.coarse = line("coarse", "-c", "tiny.toml")
    line.fine = line("fine", "--from", "coarse")
    return line
