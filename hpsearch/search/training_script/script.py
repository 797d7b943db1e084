"""The whole script, composed of its parts in the order in which they are run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config import RunConfig
from hpsearch.config.metric import Metric
from hpsearch.config.ranges import dump_range
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.images import Images
from hpsearch.datasets.sources import load_train
from hpsearch.errors import RefusedError
from hpsearch.search.plain_script import ordered
from hpsearch.search.stored_trials import StoredTrial, find_trial
from hpsearch.search.training_script.augmentation_part import augmentation_part, normalization_part
from hpsearch.search.training_script.constants import constants
from hpsearch.search.training_script.images_part import images_part
from hpsearch.search.training_script.loop_part import loop_part, optimizer_part
from hpsearch.search.training_script.net_part import depths, frozen_modules, net_part
from hpsearch.search.training_script.objective_call import objective_script
from hpsearch.search.training_script.parts import Part, tidied
from hpsearch.search.training_script.unwritten import refuse_unwritten
from hpsearch.search.weights_folder import in_quotes

ALWAYS = ("torch", "numpy")


def training_script(evidence: StudyTrials, run: RunConfig) -> str:
    """A plain PyTorch script that trains the best trial of a study again, or calls the objective with its values.

    It is read from the study and its images alone; nothing of them is kept with the study in numbers.

    Args:
        evidence: a stage of ours.
        run: where data are.

    Raises:
        RefusedError: no trial has finished, the study is no stage of ours, its images are others now, or code that it
            names is not trusted.
        ConfigError: something of the trial cannot be written; the message has what can.
        DataError: the images cannot be read.
    """
    best = best_or_refuse(evidence)
    if evidence.metric.is_own:
        return objective_script(evidence, best)
    stored = find_trial(evidence, best.number)
    kept_shape = stage_record(stored.study).images.shape
    refuse_unwritten(stored.config, kept_shape[0] if kept_shape else None)
    refuse_untrusted(names_in(stored.config.plain()))
    images = _images(stored, run)
    config, shape, num_classes = stored.config, images.shape, images.num_classes
    rates = depths(config, shape, num_classes)
    titled = [
        ("Images", images_part(config.data, images, Path(run.data_dir))),
        ("Normalization, of the images to train on", normalization_part(config, images)),
        ("Minibatches", augmentation_part(config, images)),
        ("Net", net_part(config, shape, num_classes)),
        ("Training", optimizer_part(config, rates)),
        ("", loop_part(config, rates, frozen=config.model.freeze != "none" and _freezes(stored, images))),
    ]
    ranges = {name: dump_range(range_) for name, range_ in evidence.ranges.items()}
    head = constants(config, best.params, ranges, in_quotes(evidence.study.name), images)
    return _composed(_title(stored), head, titled)


def _images(stored: StoredTrial, run: RunConfig) -> Images:
    images = load_train(stored.config.data, Path(run.data_dir))
    if (kept := stage_record(stored.study).images.fingerprint) != (found := images.fingerprint()):
        raise RefusedError(
            f"{stored.config.data.source} does not hold the images that {stored.study.name!r} was trained on "
            f"({kept} -> {found}).\nBring those back, or search again under another name."
        )
    return images


def _freezes(stored: StoredTrial, images: Images) -> bool:
    from hpsearch.models import build

    return bool(frozen_modules(stored.config.model, build(stored.config.model, images.shape, images.num_classes)))


def _title(stored: StoredTrial) -> str:
    trial, metric = stored.trial, Metric(stored.config.train.metric)
    value = "" if trial.value is None else f", {metric.label} {metric.text(trial.value)} there"
    return f"Trains trial {trial.number} of {in_quotes(stored.study.name)}: {stored.config.model.name}{value}."


def _composed(title: str, head: str, titled: Sequence[tuple[str, Part]]) -> str:
    imports = {"import numpy as np", "import torch", *(line for _, each in titled for line in each.imports)}
    packages = dict.fromkeys([*ALWAYS, *(name for _, each in titled for name in each.packages)])
    texts = [
        f'"""{title}\n\nIt prints the metric of each epoch and saves the weights of the best one. It needs '
        f'{", ".join(packages)}.\n"""',
        "\n".join(ordered(imports)),
        head,
    ]
    for name, each in titled:
        if each.text:
            texts.append(f"# --- {name}\n\n{each.text}" if name else each.text)
    return tidied("\n\n".join(texts))
