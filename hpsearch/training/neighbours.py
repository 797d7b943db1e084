"""How well the features of a net tell classes apart before anything is trained: by the nearest training images.

A baseline that costs one pass through the net (CS231n, nearest neighbours in feature space). Each image is given the
class that most of its five nearest training images have, by the angle between features; of equals the one with the
nearer images. Shapes: N = training images, V = validation images, B = batch, F = features, C = classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpsearch.config import StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.splits import sample
from hpsearch.models import build_initialized
from hpsearch.models.early_nets import EarlyNet, has_channels_last
from hpsearch.models.stages import head_names, parts_of

NEIGHBOURS = 5
NUM_TRAIN, NUM_VAL = 1000, 250  # images, stratified
FIRST = 16  # images by which the time of a pass is known
MOST_STAGES = 4  # earlier ones that are looked at, evenly spaced
LAST = "last"


@dataclass(frozen=True)
class Neighbours:
    """Accuracy on validation images by neighbours among training images, for what each stage gives."""

    num_train: int
    num_val: int
    accuracies: Mapping[str | int, float]
    """By values of model.features: "last", and some of the stages before."""
    guessing: float
    """Accuracy of always saying the class that most of these validation images have."""


def look_at_neighbours(config: StudyConfig, data: TrainingData, seconds: float) -> Neighbours | None:
    """Of a library's net as it begins; None where it has several heads.

    Args:
        config: of the net.
        data: images, not features.
        seconds: fewer images are looked at where a pass through the net is slow; some always are.

    Raises:
        ConfigError: the weights cannot be had.
    """
    whole = config.with_params({"model.features": LAST})
    net = build_initialized(whole.model, data.shape, data.num_classes, config.train.seed)
    if len(head_names(net)) != 1:
        return None
    net = net.to(data.x_val_NCHW.device, data.x_val_NCHW.dtype).eval()
    begun = time.monotonic()
    first_B = torch.arange(min(FIRST, data.num_train), device=data.y_train_N.device)
    _features(net, data.shape, [data.train_images(first_B)])
    most = int(seconds / max((time.monotonic() - begun) / len(first_B), 1e-6))
    share = min(1.0, most / (NUM_TRAIN + NUM_VAL))
    train_N = _rows(data.y_train_N, max(2 * data.num_classes, round(share * NUM_TRAIN)))
    val_V = _rows(data.y_val_N, max(data.num_classes, round(share * NUM_VAL)))
    given = _features(net, data.shape, (data.train_images(rows_B) for rows_B in torch.split(train_N, FIRST * 4)))
    asked = _features(net, data.shape, (data.x_val_NCHW[rows_B] for rows_B in torch.split(val_V, FIRST * 4)))
    y_N, y_V = data.y_train_N[train_N], data.y_val_N[val_V]
    accuracies = {
        stage: float((nearest_class(given[stage], y_N, asked[stage], data.num_classes) == y_V).double().mean())
        for stage in given
    }
    guessing = float(torch.bincount(y_V).max() / len(y_V))
    return Neighbours(len(train_N), len(val_V), accuracies, guessing)


def nearest_class(x_NF: Tensor, y_N: Tensor, x_VF: Tensor, num_classes: int) -> Tensor:
    """The class, of shape [V], that most of the nearest of x_NF have."""
    given_NF, asked_VF = (nn.functional.normalize(x_F, dim=1) for x_F in (x_NF, x_VF))
    near_VK, rows_VK = (asked_VF @ given_NF.T).topk(min(NEIGHBOURS, len(x_NF)), dim=1)
    votes_VC = near_VK.new_zeros(len(x_VF), num_classes)
    nearness_VK = 1 + (near_VK + 1) / (2 * NEIGHBOURS + 2)  # all of a class's together never outweigh one more vote
    return votes_VC.scatter_add_(1, y_N[rows_VK], nearness_VK).argmax(1)


@torch.no_grad()
def _features(net: nn.Module, shape: tuple[int, int, int], images: Iterable[Tensor]) -> dict[str | int, Tensor]:
    """By stage, of all images: means over the places of what goes into the stage behind, or into the head."""
    stages = parts_of(net).stages
    chosen = range(1, len(stages))[:: max(1, -(-(len(stages) - 1) // MOST_STAGES))]
    watched: dict[str | int, str] = {stage: stages[stage].modules[0] for stage in chosen}
    watched[LAST] = head_names(net)[0]
    found: dict[str | int, list[Tensor]] = {stage: [] for stage in watched}
    seen: dict[str | int, Tensor] = {}

    def keep(stage: str | int, inputs: tuple[object, ...]) -> None:
        if stage not in seen and inputs and isinstance(inputs[0], Tensor):
            seen[stage] = inputs[0]

    hooks = [
        net.get_submodule(name).register_forward_pre_hook(lambda _module, inputs, stage=stage: keep(stage, inputs))
        for stage, name in watched.items()
    ]
    try:
        for x_BCHW in images:
            seen.clear()
            net(x_BCHW)
            for stage, x in seen.items():
                is_head = stage == LAST
                pooled = x.flatten(1) if is_head else EarlyNet.pooled(x, has_channels_last(x, shape))
                found[stage].append(pooled)
    finally:
        for hook in hooks:
            hook.remove()
    return {stage: torch.cat(parts) for stage, parts in found.items() if parts}


def _rows(y_N: Tensor, num: int) -> Tensor:
    return torch.from_numpy(sample(y_N.cpu().numpy(), min(len(y_N), num), seed=0)).to(y_N.device)
