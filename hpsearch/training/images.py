"""The images of a study, on the device of this run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from hpsearch.config import DataConfig, RunConfig, StudyConfig
from hpsearch.config.library_recipes import Recipe, recipe, refuse_unknown
from hpsearch.config.net_names import has_given_weights, is_library_net
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.preparing import Moments, prepare
from hpsearch.errors import ConfigError
from hpsearch.models.given_weights import read_weights
from hpsearch.runtime import resolve_device, set_threads
from hpsearch.training.features import may_have_features, why_not, with_features
from hpsearch.training.precision import PRECISIONS

OF_CLASSES = ("balanced_accuracy", "macro_f1", "auroc")  # measures in which each class counts alike
FEW = 5  # validation images of a class


def load_images(
    config: StudyConfig,
    run: RunConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    as_features: bool = True,
) -> TrainingData:
    """Read, check, split, normalize and place them; `progress` hears (done, total) while files are decoded.

    Where only the head of a pretrained net trains, they become features of its body, unless `as_features` is false.

    Raises:
        DataError: they cannot be read, or are not fit to train on.
        ConfigError: the device does not exist here, or a normalization is asked for that only pretrained nets have.
    """
    set_threads(run.threads)
    dtype = PRECISIONS[config.train.precision]
    if is_library_net(config.model.name):
        refuse_unknown(config.model.name)
    found = recipe(config.model.name) if has_given_weights(dict(config.model)) else None
    read = read_weights(config.model.weights).notes if config.model.weights is not None and found is not None else ()
    moments = _moments(config)
    device, data_dir = resolve_device(run.device), Path(run.data_dir)
    data = prepare(config.data, device, dtype, data_dir, progress, run.memory, moments)
    if as_features:
        data = as_trained(config, data, run)
    if config.train.metric in OF_CLASSES and (said := rare_note(data)) is not None:
        data = replace(data, notes=(*data.notes, said))
    return replace(data, notes=(*data.notes, *_notes(config, found, data.shape), *read)) if found is not None else data


def rare_note(data: TrainingData) -> str | None:
    """What to say where a class has so few validation images that hardly anything is known of it."""
    counts = torch.bincount(data.y_val_N.cpu(), minlength=data.num_classes)
    rarest = int(counts.argmin())
    if (num := int(counts[rarest])) >= FEW:
        return None
    return (
        f"{data.class_names[rarest]!r} has {num} of {data.num_val} validation images, so little is known of how well it"
        " is found; hold out more (data.val), or cross-validate (data.folds)"
    )


def as_trained(config: StudyConfig, data: TrainingData, run: RunConfig) -> TrainingData:
    """Images as a trial trains on them: as features, where only the head of a pretrained net trains.

    Raises:
        ConfigError: the weights cannot be had.
        DataError: the cache cannot be written.
    """
    if not may_have_features(config):
        return data
    first, *others = (with_features(config, fold, Path(run.data_dir) / "cache") for fold in data.folds)
    return replace(first, other_folds=tuple(others))


def images_key(config: StudyConfig) -> tuple[DataConfig, str, str]:
    """Equal for two configs whose images are the same, but for `TrainingData.augmented_by`.

    Those of pretrained nets are normalized by the net, and their features are of images as they are, or flipped, too.
    """
    model = config.model
    features = f"{model.name} {model.pretrained} {model.weights} {model.features}" if may_have_features(config) else ""
    data = config.data if features else config.data.model_copy(update={"augment": ()})
    return data, model.name if config.data.normalize == "pretrained" else "", features


def _moments(config: StudyConfig) -> Moments | None:
    if config.data.normalize != "pretrained":
        return None
    if not is_library_net(config.model.name):
        raise ConfigError(
            f"data.normalize = 'pretrained' is not for {config.model.name}, which has no weights of a training before."
            "\nAllowed: channel, pixel, feature, none; or model.pretrained = true."
        )
    found = recipe(config.model.name)  # also for a trial that starts from nothing beside others that do not
    return found.mean, found.std


def _notes(config: StudyConfig, found: Recipe, shape: tuple[int, int, int]) -> list[str]:
    """What of the images is not theirs but the net's, and where they differ from what it was trained on."""
    notes = []
    if config.data.normalize == "pretrained":
        mean, std = (", ".join(f"{each:.3g}" for each in numbers) for numbers in (found.mean, found.std))
        notes.append(f"normalized with mean {mean} and std {std} of {found.origin}, not with those of these images")
        if config.model.weights is not None:
            notes.append(
                f"if {config.model.weights} was trained on images normalized otherwise, say so: data.normalize"
            )
    if config.model.weights is None and set(shape[1:]) != {found.size}:
        notes.append(
            f"{found.origin} was trained on images of {found.size}x{found.size}, these are {shape[1]}x{shape[2]}"
        )
    if shape[0] != len(found.mean):
        notes.append(f"images of {shape[0]} channel{'s' * (shape[0] > 1)}: the net's first filters are fitted to them")
    if (said := why_not(config)) is not None:
        notes.append(said)
    return notes
