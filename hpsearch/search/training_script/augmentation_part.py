"""The parts that prepare images: normalization, and augmentation by torchvision's transforms where these are equal.

Equal in distribution, that is: the random numbers are others. The order of the kinds, what they work on and what comes
in from outside an image are those of `datasets.augmentation`.
"""

from __future__ import annotations

import numpy as np

from hpsearch.config import StudyConfig
from hpsearch.config.augmentations import MIXES, Augmentation, active
from hpsearch.config.library_recipes import recipe
from hpsearch.datasets.images import Images
from hpsearch.datasets.normalization import of_channels
from hpsearch.search.training_script.parts import Part, part

AXES = {"channel": (0, 2, 3), "pixel": (0,), "feature": (0,)}
SAID = {"channel": "Mean and std per channel", "pixel": "The mean image", "feature": "Mean and std of each pixel"}
OWN = ("rotate", "pca", "elastic", "cutout", "gridmask")
"""Kinds that torchvision has not, or draws otherwise."""
POLICIES = {"cifar10": "CIFAR10", "imagenet": "IMAGENET", "svhn": "SVHN"}


def normalization_part(config: StudyConfig, images: Images) -> Part:
    """Lines that make x_train, y_train, x_val, y_val and `normalize`."""
    kind = config.data.normalize
    mean: list[float] = []
    std: list[float] = []
    if kind == "pretrained":
        found = recipe(config.model.name)
        made = of_channels(found.mean, found.std, images.x[:1], config.data.scale)
        mean, std = made.mean.flatten().tolist(), made.std.flatten().tolist()
    return part("normalization", kind=kind, mean=mean, std=std, axes=AXES.get(kind), said=SAID.get(kind))


def augmentation_part(config: StudyConfig, images: Images) -> Part:
    """Lines that make `minibatch`, of kinds that `unwritten` has not refused."""
    kinds = active(config.data.augment)
    channels, height, width = images.shape
    in_pixels = any(each.kind.in_pixels for each in kinds)
    mix = next((place for place, each in enumerate(kinds) if each.kind.name in MIXES), None)
    before = kinds if mix is None else kinds[:mix]
    after = [] if mix is None else kinds[mix + 1 :]
    fill = "fill" if in_pixels else "0"
    written = {
        name: [_transform(each, height, width, fill) for each in part_of]
        for name, part_of in (("augment", before), ("augment_mixed", after))
        if part_of
    }
    own = {each.kind.name: repr(each.strength) for each in kinds if each.kind.name in OWN}
    imports = ["from torchvision.transforms import v2"] if written else []
    imports += ["import torch.nn.functional as F"] if "elastic" in own else []
    return part(
        "augmentation",
        imports=imports,
        packages=["torchvision"] if written else [],
        in_pixels=in_pixels,
        from_bytes=images.x.dtype == np.uint8,
        channels=channels,
        own=own,
        composed=written,
        mix=None if mix is None else kinds[mix].kind.name,
    )


def mixing(config: StudyConfig) -> Augmentation | None:
    """The kind that mixes labels."""
    return next((each for each in active(config.data.augment) if each.kind.name in MIXES), None)


def _transform(found: Augmentation, height: int, width: int, fill: str) -> str:
    """As one element of a `v2.Compose`, of one image C,H,W."""
    size, strength = f"({height}, {width})", found.strength
    match found.kind.name:
        case "hflip":
            return "v2.RandomHorizontalFlip()"
        case "vflip":
            return "v2.RandomVerticalFlip()"
        case "crop":
            return f"v2.RandomCrop({size}, padding={strength}, fill={fill})"
        case "scale":
            return f"v2.RandomResizedCrop({size}, scale=({strength}, 1), antialias=False)"
        case "translate":
            return f"v2.RandomAffine(0, translate=({strength}, {strength}), fill={fill})"
        case "brightness" | "contrast" | "saturation" | "hue" as name:
            return f"v2.ColorJitter({name}={strength})"
        case "noise":
            return f"v2.GaussianNoise(sigma={strength})"
        case "autoaugment":
            return f"v2.AutoAugment(v2.AutoAugmentPolicy.{POLICIES[str(strength)]}, fill={fill})"
        case "randaugment":
            num, magnitude = str(strength).split(",")
            return f"v2.RandAugment({num}, {magnitude}, fill={fill})"
        case "trivialaugment":
            return f"v2.TrivialAugmentWide(fill={fill})"
    return found.kind.name
