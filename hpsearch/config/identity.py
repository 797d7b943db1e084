"""What a stage's config is known by: files count by what is in them, not by where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpsearch.config.beginnings import NO_WEIGHTS
from hpsearch.config.file_hash import file_hash
from hpsearch.config.library_recipes import recipe
from hpsearch.config.net_folder import folder_hash
from hpsearch.errors import ConfigError

WEIGHTS = "model.weights"


def identified(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain tables of a config, with weights by their content: a file's hash, or the library's name of its own. So is
    a teacher.

    Those of a choice are known by their path, too, which is the value that trials have.

    Raises:
        ConfigError: the file that model.weights names is not there, or the folder that train.teacher names.
    """
    model, space = plain.get("model", {}), plain.get("space", {})
    train = plain.get("train", {})
    if train.get("teacher"):
        plain = {**plain, "train": {**train, "teacher": folder_hash("train.teacher", train["teacher"])}}
    if searched := space.get(WEIGHTS, {}).get("choice"):
        contents = [path if path == NO_WEIGHTS else [path, content_hash(path)] for path in searched]
        plain = {**plain, "space": {**space, WEIGHTS: {"choice": contents}}}
    if not (model.get("pretrained") or model.get("weights")):
        return dict(plain)
    found = dict(model)
    if found.get("weights"):
        found["weights"] = content_hash(found["weights"])
    else:
        found["pretrained"] = recipe(found["name"]).origin
    return {**plain, "model": found}


def content_hash(path: str) -> str:
    """Of the file that model.weights names.

    Raises:
        ConfigError: it is not there.
    """
    file = Path(path).expanduser()
    try:
        return f"sha256:{file_hash(file).hex()[:32]}"
    except OSError as error:
        raise ConfigError(
            f"model.weights = {path!r} cannot be read: {error.strerror}: {file.absolute()}.\n"
            "Allowed: a file of weights; a relative path starts at the working folder."
        ) from None
