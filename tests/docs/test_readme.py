"""Commands of the README and the docs are run where they can be, and checked for their options where they cannot."""

import functools
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from warm_commands import warm_commands

from hpsearch.cli.app import app
from hpsearch.config import load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = {str(p.relative_to(DOCS)): p.read_text() for p in sorted(DOCS.rglob("*.md")) if p.name != "log.md"}
SESSION = re.findall(r"^\$ (hpsearch .*)$", PAGES["procedure.md"], re.MULTILINE)
TEXTS = [README, *PAGES.values(), (ROOT / "CONTRIBUTING.md").read_text()]
INLINE = sorted(
    {
        part
        for text in TEXTS
        for command in re.findall(r"`(hpsearch [a-z][^`]*)`", text)
        for part in command.split(" && ")
    }
)


@pytest.mark.slow  # several whole searches
def test_the_session_runs_word_for_word_in_an_empty_folder(tmp_path):
    assert len(SESSION) >= 4
    for command in SESSION:
        words, _, file = command.partition(" > ")
        done = warm_commands().run(shlex.split(words)[1:], tmp_path, dict(os.environ), timeout=600)
        assert done.returncode == 0, (command, done.stderr)
        if file:
            (tmp_path / file).write_text(done.stdout)
        if command == "hpsearch coarse --epochs 5":
            best = re.search(r"val_acc (0\.\d+)", done.stdout)
            assert best is not None
            assert float(best[1]) >= 0.93
    assert tomllib.loads((tmp_path / "best.toml").read_text())["train"]["lr"] > 0


COMMANDS = functools.cache(get_command)


@pytest.mark.parametrize("command", INLINE)
def test_commands_and_options_in_the_text_exist(command):
    words = shlex.split(command)[1:]
    words = words[: words.index("--")] if "--" in words else words  # what follows is another program's
    current = COMMANDS(app)
    while words and hasattr(current, "commands") and words[0] in current.commands:
        current = current.commands[words.pop(0)]
    assert current.name != "hpsearch", command
    options = {name for parameter in current.params for name in parameter.opts}
    for word in words:
        if word.startswith("-"):
            assert word in options, (command, word)


def test_the_readme_s_session_is_the_beginning_of_the_longer_one():
    assert re.findall(r"^\$ (hpsearch .*)$", README, re.MULTILINE) == SESSION[:2]


def test_links_lead_somewhere():
    for text, folder in [(README, ROOT), *((page, (DOCS / name).parent) for name, page in PAGES.items())]:
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / target).exists(), target


def test_the_study_file_is_valid(tmp_path):
    block = re.findall(r"```toml\n(.*?)```", PAGES["study-files.md"], re.DOTALL)[0]
    (tmp_path / "study.toml").write_text(block)
    assert load_settings(tmp_path / "study.toml").study.data.val == 1000


@pytest.mark.slow
def test_the_example_of_an_own_loss_runs(tmp_path):
    [losses] = [b for b in re.findall(r"```python\n(.*?)```", PAGES["own-code.md"], re.DOTALL) if "# losses.py" in b]
    (tmp_path / "losses.py").write_text(losses)
    ranges = ["--space", "train.step_options.alpha=log(1e-3,10)"]
    for command in (
        ["coarse", "--model", "losses:TwoHeads", "--trainer", "losses:step", *ranges],
        ["fine", "--from", "coarse", "--trust", "losses"],
    ):
        words = [*command, "--trials", "3", "--epochs", "1"]
        done = warm_commands().run(words, tmp_path, dict(os.environ), timeout=600)
        assert done.returncode == 0, done.stderr
        assert "train.step_options.alpha" in done.stdout
