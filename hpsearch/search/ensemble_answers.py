"""What the nets that an ensemble may be made of say of images: they are trained where they have to be, and asked.

Shape suffixes: N = images, C = classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.config import RunConfig
from hpsearch.datasets.images import Progress
from hpsearch.datasets.preparing import prepare_test
from hpsearch.datasets.stored import StoredImages, chunks
from hpsearch.search.ensemble_members import Member, Wanted, is_kept, kept_members, train_members
from hpsearch.search.ensemble_selection import Array
from hpsearch.search.stored_trials import Training, images_of
from hpsearch.search.trained_net import TrainedNet
from hpsearch.storage import Database
from hpsearch.training.class_scores import CHUNK
from hpsearch.training.images import images_key


@dataclass(frozen=True)
class EnsembleListener:
    """Hears what takes time."""

    progress: Progress | None = None
    """(done, total) while image files are decoded."""
    to_train: Callable[[Sequence[Wanted], int], None] = lambda *_: None
    """Before anything is trained: what will be, and how many nets there are in all."""
    trained: Callable[[Wanted, Training], None] = lambda *_: None


@dataclass(eq=False)
class Answers:
    """Of each member, in order, probabilities N,C of the validation images, and of the test images if they are used."""

    members: list[Member] = field(default_factory=list)
    p_val: list[Array] = field(default_factory=list)
    p_test: list[Array] = field(default_factory=list)
    y_val: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    y_test: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    test_images: list[str] = field(default_factory=list)
    """Fingerprints of the test images, one for each way in which they are prepared."""
    exploded: list[Wanted] = field(default_factory=list)
    """Trainings that gave no net."""


def all_answers(
    db: Database, run: RunConfig, wanted: Sequence[Wanted], *, test: bool, hears: EnsembleListener
) -> Answers:
    """Train what is not kept, and ask every net; those whose images are prepared alike one after the other.

    Raises:
        RefusedError: what is there now are other images than the trials were trained on.
        DataError: images cannot be read; there is no test split, though it is asked for.
    """
    answers = Answers()
    by_images: dict[Any, list[Wanted]] = {}
    for each in wanted:
        by_images.setdefault(images_key(each.stored.config), []).append(each)
    for alike in by_images.values():
        first = alike[0].stored
        data = images_of(first, run, hears.progress)
        answers.y_val = data.y_val_N.cpu().numpy()
        x_test: Tensor | StoredImages | None = None
        if test:
            which = answers.test_images.append
            place = Path(run.data_dir)
            x_test, y_test_N = prepare_test(first.config.data, data, place, hears.progress, run.memory, which)
            answers.y_test = y_test_N.cpu().numpy()
        for each in alike:
            if is_kept(each, run):
                members = kept_members(each, data, run)
            else:
                training, members = train_members(db, each, data, run)
                hears.trained(each, training)
            answers.exploded += [] if members else [each]
            for member in members:
                answers.members.append(member)
                answers.p_val.append(probabilities(member.net, data.x_val_NCHW))
                if x_test is not None:
                    answers.p_test.append(probabilities(member.net, x_test))
    return answers


@torch.inference_mode()
def probabilities(net: TrainedNet, x_NCHW: Tensor | StoredImages) -> Array:
    """What a net says of images that are prepared for it: N,C in float64.

    Raises:
        RefusedError, ConfigError: see `TrainedNet.module`.
    """
    module = net.module(x_NCHW.device)
    p_NC: Array = torch.cat([module(x).cpu().double().softmax(1) for x in chunks(x_NCHW, CHUNK)]).numpy()
    return p_NC
