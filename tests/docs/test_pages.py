"""The pages that a stranger learns from: each session is run word for word, and the site is built without a warning.

A page is one session in one folder: blocks of code that begin with `# name.py` are files there, lines with `$` in a
console block are commands. What cannot be run here says why, in a comment above it.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_pages import FOLDER, PAGES
from warm_commands import warm_commands

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n)?```(?P<kind>python|toml|console)\n(?P<text>.*?)```", re.DOTALL)
TAUGHT = sorted([*DOCS.glob("tutorial/*.md"), *DOCS.glob("explanation/*.md"), DOCS / "index.md"])


def session_of(text):
    """The files of a page, and its commands."""
    files, commands = {}, []
    for block in BLOCK.finditer(text):
        named = re.match(r"# (\w+\.(?:py|toml))\n", block["text"])
        if block["kind"] != "console" and named:
            files[named[1]] = block["text"]
        elif block["kind"] == "console" and not block["skip"]:
            lines = block["text"].replace("\\\n", " ").splitlines()
            commands += [line[2:] for line in lines if line.startswith("$ ")]
    return files, commands


SESSIONS = {page.stem: page.read_text() for page in TAUGHT}
# Pages to look things up have a session in each section.
SESSIONS |= {
    f"{name}: {section.partition(chr(10))[0]}": section
    for name in ("own-objective",)
    for section in (DOCS / f"{name}.md").read_text().split("\n## ")
}
SESSIONS = {name: text for name, text in SESSIONS.items() if session_of(text)[1]}
ELSEWHERE = {
    "own-objective: Gradient boosting"
}  # run by tests/cli/test_gradient_boosting.py, which looks at what is said
# Where a page does not say how many; test_readme.py runs the longest session at its full size.
FEW = {"HPSEARCH_COARSE__TRIALS": "16", "HPSEARCH_FINE__TRIALS": "8"}


def write_photographs(folder):
    """Three classes of forty images that differ in colour, and two new ones."""
    rng = np.random.default_rng(0)

    def write(path, colour):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (24, 30, 3)) + np.array(colour)
        Image.fromarray(pixels.astype(np.uint8)).save(path)

    for name, colour in (("cats", (150, 20, 20)), ("dogs", (20, 150, 20)), ("horses", (20, 20, 150))):
        for number in range(40):
            write(folder / "photos" / name / f"{number}.jpg", colour)
    write(folder / "new-photos" / "a.jpg", (150, 20, 20))
    write(folder / "new-photos" / "b.jpg", (20, 150, 20))


def run_command(text, folder, environment):
    """A line of a session: `hpsearch ...` in a process that has torch already, all else by the shell."""
    words = shlex.split(text, comments=True)
    if words[0] == "hpsearch":
        words, printed = (words[: words.index(">")], words[-1]) if ">" in words else (words, None)
        done = warm_commands().run(words[1:], folder, environment, timeout=600)
        if printed is not None:
            (folder / printed).write_text(done.stdout)
    else:
        done = subprocess.run(
            text, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )
    assert done.returncode == 0, (text, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SESSIONS if name not in ELSEWHERE])
def test_a_page_s_commands_run_word_for_word_one_after_the_other(name, tmp_path):
    files, commands = session_of(SESSIONS[name])
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    write_photographs(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (programs / "python").chmod(0o755)
    environment = {**os.environ, **FEW, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for command in commands:
        run_command(command, tmp_path, environment)


def test_every_session_is_found_and_what_is_left_out_is_little():
    assert SESSIONS.keys() >= {"digits", "photographs", "own-script", "fleet", *ELSEWHERE}
    assert len(SESSIONS) == 8
    skipped = [block for text in SESSIONS.values() for block in BLOCK.finditer(text) if block["skip"]]
    assert len(skipped) <= 5


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name):
    assert (FOLDER / name).read_text() == PAGES[name](), "run: python tests/docs/reference_pages.py"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs zensical, the extra docs")
def test_the_site_is_built_without_a_warning(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "tutorial" / "digits.html").is_file()


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
