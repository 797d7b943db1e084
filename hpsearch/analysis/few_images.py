"""Explosions where a minibatch says little: one bad one may have thrown the trial off, not its learning rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpsearch.wording import count_text

FEW_IMAGES = 6  # of a minibatch; below, one image moves its gradient by a fifth and more
FEW_STEPS = 6  # of an epoch; below, whether one of them is a bad one is luck


def few_images_text(
    config: Mapping[str, Any] | None, num_train: int | None, params: Mapping[str, Any] | None = None
) -> str | None:
    """What speaks against the learning rate as the one reason of an explosion; None where nothing does.

    Args:
        config: the study file, in its plain form.
        num_train: images to train on; None where that is not known.
        params: of the trial, whose batch size may be its own.
    """
    train = (config or {}).get("train") or {}
    own = params or {}
    size = own.get("train.batch_size", own.get("batch_size", train.get("batch_size")))
    if not isinstance(size, int) or size < 1:
        return None
    if size < FEW_IMAGES:
        few = f"a step sees {count_text(size, 'image')}"
    elif num_train and (steps := math.ceil(num_train / size)) < FEW_STEPS:
        few = f"an epoch has {count_text(steps, 'step')}"
    else:
        return None
    return f"{few}, so one bad minibatch may be the reason, not lr: train.batch_size or train.clip_norm would tell"
