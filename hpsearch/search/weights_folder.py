"""A trained net in a folder that needs no hpsearch: weights, a description, and a script that uses both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpsearch.analysis.records import stage_record
from hpsearch.config.concise import SECTIONS, concise
from hpsearch.config.metric import Metric
from hpsearch.config.net_folder import DESCRIPTION, MEAN, SCRIPT, STD, WEIGHTS
from hpsearch.config.template import as_toml
from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.decoding import Recipe
from hpsearch.errors import ConfigError, DataError
from hpsearch.search.onnx_model import onnx_model
from hpsearch.search.plain_script import plain_script
from hpsearch.search.trained_net import TrainedNet

ONNX = "model.onnx"
FILES = (WEIGHTS, DESCRIPTION, ONNX, SCRIPT)


def refuse_replacing(folder: Path, *, force: bool, files: Sequence[str] = FILES) -> None:
    """Say no to a folder that is none or, without `force`, has one of the files already.

    Raises:
        ConfigError: it is so.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--weights {folder} is a file.\nAllowed: a folder; it is made if it is not there.")
    if not force and (there := next((folder / name for name in files if (folder / name).exists()), None)):
        raise ConfigError(f"{there} is there already.\nReplace it with --force, or give another folder.")


def write_weights(net: TrainedNet, folder: Path, *, onnx: bool = False) -> list[Path]:
    """Write the net to a folder, which is made if it is not there; the files.

    With `onnx` it is written as an ONNX model, too; without, one that was there goes, as it would be another net's.

    Raises:
        ConfigError: they cannot be written, or the net cannot be spelt out, or not in ONNX.
        MissingExtraError: a package for ONNX is missing.
        RefusedError: for ONNX, code of the user's is needed and not trusted.
    """
    pre, stored = net.preprocessing, net.stored
    recipe = recipe_of(net)
    script = plain_script(
        stored.config.model, pre.shape, net.num_classes, _title(net),
        files=recipe is not None, has_threshold=net.threshold is not None,
    )  # fmt: skip
    description = f"# {_title(net)}\n\n{as_toml(_description(net, recipe))}".encode(errors="replace")
    said = {name: repr(value) for name, value in _threshold(net).items()}
    contents = {
        WEIGHTS: weights_file(net),
        DESCRIPTION: description,
        **({ONNX: onnx_model(net, _title(net), {DESCRIPTION: description.decode(), **said})} if onnx else {}),
        SCRIPT: script.encode(errors="replace"),
    }
    paths = write_files(folder, contents)
    if not onnx:
        (folder / ONNX).unlink(missing_ok=True)
    return paths


def write_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files of these names, each whole or not at all; their paths.

    Raises:
        ConfigError: they cannot be written.
    """
    paths = [folder / name for name in contents]
    try:
        for path in paths:
            with replacing(path) as file:
                file.write(contents[path.name])
    except OSError as error:
        raise ConfigError(f"--weights {folder} cannot be written: {error.strerror}.") from None
    return paths


def weights_file(net: TrainedNet) -> bytes:
    """The net's weights with mean and std of its images, as a file of safetensors."""
    from safetensors.torch import save

    moments = zip((MEAN, STD), net.preprocessing.tensors().values(), strict=True)
    means = {name: tensor.to(net.dtype) for name, tensor in moments}
    return save({**{name: tensor.contiguous() for name, tensor in net.state.items()}, **means})


def recipe_of(net: TrainedNet) -> Recipe | None:
    """How its image files are decoded; None where they are none."""
    try:
        return net.preprocessing.file_recipe
    except DataError:
        return None


def _title(net: TrainedNet) -> str:
    trial, quoted = net.stored.trial, in_quotes(net.stored.study.name)
    metric, value = _metric(net), trial.value
    of = f", {metric.label} {metric.text(value)}" if value is not None else ""
    return f"Trial {trial.number} of {quoted}: {net.stored.config.model.name}{of}."


def in_quotes(name: str) -> str:
    """Anybody's name as it may stand in the script's first line."""
    return "".join(char if char.isprintable() and char not in '"\\' else " " for char in name)


def _metric(net: TrainedNet) -> Metric:
    return Metric(net.stored.config.train.metric)  # its name is enough: a function of the user's need not be imported


def shape_and_recipe(shape: tuple[int, int, int], recipe: Recipe | None) -> dict[str, Any]:
    """What the script's `read` asks of [images]."""
    found: dict[str, Any] = {"shape": list(shape)}
    if recipe is not None:
        found |= {"black": recipe.black, "white": recipe.white, "crop": recipe.crop}
    return found


def _description(net: TrainedNet, recipe: Recipe | None) -> Mapping[str, Mapping[str, Any]]:
    """What the script reads in [classes] and [images], and where all of it comes from."""
    pre, stored = net.preprocessing, net.stored
    config = concise(stored.config)
    images = {**shape_and_recipe(pre.shape, recipe), "factor": pre.normalization.factor}
    images["normalized"] = f"(x * factor - mean) / std, which are in {WEIGHTS} as {MEAN} and {STD}"
    return {
        "trial": {
            "study": stored.study.name,
            "number": stored.trial.number,
            _metric(net).column: stored.trial.value,
            "epoch": stored.best_epoch,
            "params": dict(stored.trial.params),
        },
        "classes": {"names": list(pre.class_names), **_threshold(net)},
        "images": images,
        **{section: config[section] for section in SECTIONS},
        "versions": dict(stage_record(stored.study).versions),
    }


def _threshold(net: TrainedNet) -> dict[str, float]:
    """Of the second class; see `training.threshold`."""
    return {} if net.threshold is None else {"threshold": net.threshold.value}
