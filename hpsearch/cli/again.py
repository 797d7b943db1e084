"""The command line that was given, with some values changed: what is proposed to be typed next."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

FLAGS = {"train.epochs": "--epochs", "model.name": "--model", "data.source": "--data", "train.seed": "--seed"}
"""Options that set a key of the study file."""
SILENT = {"--json", "--quiet", "--verbose", "--dry-run"}


def command_again(arguments: Sequence[str], name: str, changes: Mapping[str, Any]) -> str:
    """`hpsearch train ...` once more, for a study of another name, with other values of some keys.

    Args:
        arguments: as they were given, the command first.
        name: of the study.
        changes: keys of the study file and their values; what said these before is left out.
    """
    replaced = {"--name", *(FLAGS[key] for key in changes if key in FLAGS)}
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        option, sign, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if option in SILENT or re.fullmatch("-[qv]+", word):
            continue
        if not option.startswith("-") or (len(word) > 2 and not word.startswith("--")):  # `train`, or `-cFILE`
            kept.append(word)
            continue
        if not sign:
            value = next(words, "")
        key = value.partition("=")[0].strip()
        if option in replaced or (option == "--set" and (key in changes or f"train.{key}" in changes)):
            continue
        kept += [word] if sign else [word, value]
    for key, changed in changes.items():
        text = f"{changed:g}" if isinstance(changed, float) else json.dumps(changed)
        kept += [FLAGS[key], text] if key in FLAGS else ["--set", f"{key}={text}"]
    return shlex.join(["hpsearch", *kept, "--name", name])


def next_name(name: str, taken: Sequence[str]) -> str:
    """`train` -> `train-2`, `train-2` -> `train-3`: the first that no study has."""
    stem, sign, number = name.rpartition("-")
    if not (sign and number.isdecimal()):
        stem, number = name, "1"
    count = int(number) + 1
    while f"{stem}-{count}" in taken:
        count += 1
    return f"{stem}-{count}"
