"""The files of a trained net, or of an ensemble, in a folder that needs no hpsearch: their names, and their hash."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpsearch.config.file_hash import file_hash
from hpsearch.errors import ConfigError

WEIGHTS, DESCRIPTION, SCRIPT = "weights.safetensors", "model.toml", "predict.py"
ENSEMBLE = "ensemble.toml"  # in the place of model.toml; it names the files of weights
MEAN, STD = "normalization.mean", "normalization.std"  # among the weights
WRITES = "a folder that best --weights or ensemble --weights wrote; a relative path starts at the working folder"


def read_description(key: str, folder: str) -> tuple[Path, dict[str, Any]]:
    """The file that describes the net or the ensemble in a folder, and what it says.

    Args:
        key: that names the folder, for messages.
        folder: as it is given.

    Raises:
        ConfigError: there is none, or there are both, or it cannot be read.
    """
    path = Path(folder).expanduser()
    found = [file for name in (DESCRIPTION, ENSEMBLE) if (file := path / name).is_file()]
    if len(found) != 1:
        has = f"has neither {DESCRIPTION} nor {ENSEMBLE}" if not found else f"has both {DESCRIPTION} and {ENSEMBLE}"
        raise ConfigError(f"{key} = {folder!r} {has}: {path.absolute()}.\nAllowed: {WRITES}.")
    try:
        return found[0], tomllib.loads(found[0].read_text(errors="surrogateescape"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{key} = {folder!r}: {found[0]} cannot be read: {error}.\nAllowed: {WRITES}.") from None


def weights_files(description: Path, said: Mapping[str, Any]) -> list[Path]:
    """Those of the net, or of each net of the ensemble."""
    if description.name == DESCRIPTION:
        return [description.parent / WEIGHTS]
    return [description.parent / each["file"] for each in said["members"].values()]


def folder_hash(key: str, folder: str) -> str:
    """Of the description and all weights; not of the script, which does what they say.

    Raises:
        ConfigError: as `read_description`, or weights are not there.
    """
    description, said = read_description(key, folder)
    digest = hashlib.sha256()
    try:
        for file in (description, *weights_files(description, said)):
            digest.update(file_hash(file))
    except (OSError, KeyError, TypeError) as error:
        raise ConfigError(f"{key} = {folder!r} is not whole: {error!r}.\nAllowed: {WRITES}.") from None
    return f"sha256:{digest.hexdigest()[:32]}"
