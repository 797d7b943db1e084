"""Whether the program of a command is there: a missing one is no reason for trials to fail."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from hpsearch.config.schema.objective import PLACEHOLDER
from hpsearch.config.usercode import UserCodeError

INTERPRETER = re.compile(r"(python|pypy|perl|ruby|node|julia|Rscript|bash|sh|zsh)[\d.]*")
SCRIPT = re.compile(r".*\.(py|sh|pl|rb|m?js|jl|[rR])")


def refuse_unstartable(words: Sequence[str]) -> None:
    """Look for the program, and for the script that an interpreter is given; words that trials fill in are left.

    Raises:
        UserCodeError: it is not there, or cannot be executed.
    """
    program = words[0]
    if re.search(PLACEHOLDER, program):
        return
    path = Path(program)
    if os.sep not in program:
        if shutil.which(program) is None:
            own = f"./{program}" if path.is_file() else ""
            hint = f"as {own}" if own else "a program on the PATH, or the path of a file"
            raise UserCodeError(f"the program {program!r} is not there.\nAllowed: {hint}. The command: {_shown(words)}")
    elif not path.exists():
        raise UserCodeError(
            f"the program {program!r} is not there.\nLooked in {Path.cwd()}. The command: {_shown(words)}"
        )
    elif not path.is_file() or not os.access(path, os.X_OK):
        what = "a folder" if path.is_dir() else "not executable"
        raise UserCodeError(
            f"the program {program!r} is {what}.\n"
            f"Allowed: chmod +x {program}; or its interpreter in front, as python {program}."
        )
    if (script := _script(words)) is not None and not Path(script).is_file():
        raise UserCodeError(
            f"the script {script!r} is not there.\nLooked in {Path.cwd()}. The command: {_shown(words)}"
        )


def _script(words: Sequence[str]) -> str | None:
    """The file that an interpreter is to run: its first word that is no option, if it looks like one."""
    if not INTERPRETER.fullmatch(Path(words[0]).name):
        return None
    for word in words[1:]:
        if word in ("-m", "-c", "-e"):  # a module, or code
            return None
        if not word.startswith("-") and SCRIPT.fullmatch(word):
            return None if re.search(PLACEHOLDER, word) else word
    return None


def _shown(words: Sequence[str]) -> str:
    return " ".join(words)
