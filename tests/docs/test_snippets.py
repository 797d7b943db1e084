"""The code of all pages that are no lessons: what can be run is run, the rest is listed with the reason, and parsed.

A page has a session for each section, in a folder of its own: a block that begins with `# name.py` is a file there, a
line of `hpsearch ...` a command, other Python is executed. Studies are small: the environment says how many trials they
have. Lessons and reasons are run by `test_pages.py`.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_pages import BLOCK as TAUGHT_BLOCK
from test_pages import SESSIONS as TAUGHT
from test_pages import run_command, session_of, write_photographs
from test_readme import SESSION as READ
from typer.main import get_command

from hpsearch.cli.app import app
from hpsearch.config import load_settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "adapters.md": "tests/cli/test_adapters.py",
    "log.md": None,  # what was measured, with commands of its day
    "reference/keys.md": "tests/docs/test_pages.py",  # written from the code
    "reference/commands.md": "tests/docs/test_pages.py",
}
PAGES = {
    str(page.relative_to(DOCS)): page.read_text()
    for page in sorted(DOCS.rglob("*.md"))
    if page.parent.name not in ("tutorial", "explanation") and str(page.relative_to(DOCS)) not in ELSEWHERE
} | {"README.md": (ROOT / "README.md").read_text()}

LEFT_OUT = {
    # what a line begins with: why it is not run
    "pip install": "installs what the tests run in",
    "phase   ": "what is printed, and no command",
    "hpsearch coarse --data folder:photos --model torchvision:resnet18": "downloads weights",
    "hpsearch export fine --to mlflow": "needs MLflow",
    "hpsearch coarse --devices cuda:0,cuda:1": "needs two GPUs and a server",
    "hpsearch worker coarse": "needs another machine",
    "hpsearch storage init": "is of a server",
    "hpsearch coarse --epochs 5 --engine ray": "needs Ray",
    "hpsearch fine --from coarse --engine ray": "needs Ray",
    "hpsearch coarse --epochs 5 --trials 1000": "is for a cluster with Slurm",
    "hpsearch coarse --epochs 5                      # makes the stage": "is of a server",
    "hpsearch stop coarse": "waits for workers that tests/cli/test_fleet_commands.py starts",
    "hpsearch fine --from their_study": "needs a study of yours",
    "hpsearch wrap --space 'lr=log(1e-5,1)' --space 'wd=": "needs a script of yours",
    "hpsearch fine --from wrapped": "trusts a hash of that script",
    "export ": "sets variables of a cluster",
    "mkdir ": "prepares Docker",
    "openssl ": "prepares Docker",
    "chmod ": "prepares Docker",
    "docker ": "needs Docker",
    "STUDY=": "needs Docker",
    "GPU=": "needs Docker",
    "sbatch ": "needs Slurm",
    "kubectl ": "needs Kubernetes",
}
BEFORE = {
    # a session: commands that made what it speaks of
    "exports.md": ["coarse --data digits --skip-checks", "fine --from coarse"],
    "study-files.md: Learning from a better net": [
        "coarse --data digits --skip-checks",
        "fine --from coarse --trials 5",
    ],
    "README.md 5": ["coarse --data digits --skip-checks"],
    "study-files.md: Averages of weights, and updates from several minibatches": ["coarse --data digits --skip-checks"],
}
FILES = {
    # what a reader of these sessions has: their own script
    "README.md": {
        "train.py": """
import argparse

def objective(params, report):
    return 1 - abs(params["lr"] - 0.1)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    print(f"val_acc={1 - abs(parser.parse_args().lr - 0.1)}")
"""
    }
}
SMALL = {
    "HPSEARCH_COARSE__TRIALS": "4",
    "HPSEARCH_COARSE__EPOCHS": "1",
    "HPSEARCH_FINE__TRIALS": "2",
    "HPSEARCH_FINE__EPOCHS": "1",
    "HPSEARCH_RUN__THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
RUNGS = {"HPSEARCH_COARSE__EPOCHS": "4", "HPSEARCH_FINE__EPOCHS": "4"}
LONGER = {"halving.md": RUNGS, "README.md 3": RUNGS}
CODE = re.compile(
    r"^```(?P<kind>\w*)\n(?P<text>.*?)^```|(?<=\n\n)(?P<indented>(?:^    [^\n]*\n+)+)",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Session:
    """What a section of a page has a reader do, in order."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """file, command, python, toml or other, and the text."""


def sections_of(page, text):
    """By name; of a page without sections, each block by itself."""
    if page == "README.md":
        return {f"README.md {place}": block[0] for place, block in enumerate(CODE.finditer(text), start=1)}
    first, *others = re.split(r"^## ", text, flags=re.MULTILINE)
    return {page: first} | {f"{page}: {section.partition(chr(10))[0]}": section for section in others}


def read_session(name, text):
    """The steps of a section."""
    session = Session(name)
    for block in CODE.finditer(f"\n\n{text}"):
        lines = (block["text"] if block["indented"] is None else block["indented"]).replace("\\\n", " ")
        kind = "indented" if block["indented"] is not None else block["kind"]
        if kind in ("python", "toml"):
            named = re.match(r"# [\w.]+\.(?:py|toml)\n", lines)
            session.steps.append(("file" if named else kind, lines))
        elif kind == "console":
            session.steps += [("command", line[2:]) for line in lines.splitlines() if line.startswith("$ ")]
        elif kind == "indented":
            lines = [line.strip() for line in lines.splitlines() if line.strip()]
            session.steps += [("command", line) for line in lines if not line.startswith("[")]
        else:
            session.steps.append(("other", f"```{kind}"))
    return session


SESSIONS = {
    name: session
    for page, text in PAGES.items()
    for name, section in sections_of(page, text).items()
    if (session := read_session(name, section)).steps
}
RUN_BY_OTHERS = {*READ, *(" ".join(c.split()) for text in TAUGHT.values() for c in session_of(text)[1])}


def reason_of(command):
    """Why a command is not run here; None where it is."""
    return next((why for beginning, why in LEFT_OUT.items() if command.startswith(beginning)), None)


def runs(session):
    """Whether a session has something to do that no other test does word for word; then all of it is done, in order."""
    return any(
        kind == "python"
        or (kind == "command" and reason_of(text) is None and " ".join(text.split()) not in RUN_BY_OTHERS)
        for kind, text in session.steps
    )


class Runner:
    """Runs the steps of a session in a folder."""

    def __init__(self, folder):
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        self.environment = {**kept, **SMALL, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}

    def command(self, text):
        if text.startswith("python "):
            text = f"{shlex.quote(sys.executable)} {text.partition(' ')[2]}"
        else:
            assert text.startswith("hpsearch "), text
        run_command(text, self.folder, self.environment)

    def python(self, text):
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, (text, done.stderr)
        assert done.stdout, "a block of Python shows what it did"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, session in SESSIONS.items() if runs(session)])
def test_a_section_s_code_runs(name, tmp_path):
    runner = Runner(tmp_path)
    write_photographs(tmp_path)
    page = name.partition(":")[0].partition(" ")[0]
    runner.environment.update(LONGER.get(page, LONGER.get(name, {})))
    for file, text in FILES.get(page, {}).items():
        (tmp_path / file).write_text(text)
    for command in BEFORE.get(name, ()):
        runner.command(f"hpsearch {command}")
    for kind, text in SESSIONS[name].steps:
        if kind == "file":
            (tmp_path / text.split()[1]).write_text(text)
        elif kind == "python":
            runner.python(text)
        elif kind == "command" and reason_of(text) is None:
            runner.command(text)


@pytest.mark.parametrize("name", SESSIONS)
def test_code_is_of_a_kind_that_is_run_and_can_be_parsed(name):
    """A block of another language, or a command of another program, has to be run or listed, too."""
    session = SESSIONS[name]
    commands = [text for kind, text in session.steps if kind == "command"]
    for kind, text in session.steps:
        assert kind != "other", f"{text} is neither run nor listed"
        if kind == "python" or (kind == "file" and text.split()[1].endswith(".py")):
            compile(text, name, "exec")
        elif kind == "command" and text.startswith("hpsearch "):
            parse(text)
        elif kind == "command" and not text.startswith("python "):
            assert reason_of(text) is not None, f"{text} is neither run nor listed"
        elif kind == "toml":
            load_settings(document=tomllib.loads(text))
        if kind == "file":  # of no use unless a command of its section reads it
            stem = text.split()[1].rpartition(".")[0]
            assert any(
                stem in command for command in [*commands, *(t for k, t in session.steps if k == "file" and t != text)]
            )


def parse(command):
    """By the option parser, which runs nothing."""
    words = shlex.split(command, comments=True)[1:]
    words = words[: words.index(">")] if ">" in words else words
    current, context = get_command(app), None
    while hasattr(current, "commands"):
        current = current.commands[words.pop(0)]
    context = current.make_context(current.name, words)
    assert context.params is not None


def test_nothing_is_listed_that_is_not_there():
    commands = [text for session in SESSIONS.values() for kind, text in session.steps if kind == "command"]
    for beginning in LEFT_OUT:
        assert any(command.startswith(beginning) for command in commands), beginning
    assert SESSIONS.keys() >= BEFORE.keys()
    assert sum(runs(session) for session in SESSIONS.values()) >= 12
    for page, test in ELSEWHERE.items():
        assert (DOCS / page).is_file()
        assert test is None or Path(page).name in (ROOT / test).read_text() or "reference" in (ROOT / test).read_text()


def test_what_is_marked_as_not_run_is_listed_here_too():
    for text in PAGES.values():
        for block in TAUGHT_BLOCK.finditer(text):
            if block["skip"]:
                for line in block["text"].replace("\\\n", " ").splitlines():
                    assert reason_of(line.removeprefix("$ ")) is not None, line
