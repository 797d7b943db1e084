"""AutoAugment, RandAugment and TrivialAugment: operations drawn for each image, as torchvision has them.

Operations, magnitudes and their signs are drawn beforehand; an operation is done to the images that drew it. Values
between pixels are the nearest, as by default in torchvision; what comes in from outside is the mean colour.

Shape suffixes: N = images of an epoch, B = batch, S = steps, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hpsearch.config.augmentations import NUM_BINS, Augmentation
from hpsearch.datasets import colours
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.pixels import Pixels
from hpsearch.datasets.policy_tables import TABLES

MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
OPERATIONS = ("Identity", *MOVES, *FACTORS, "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert")
NUM_DRAWN = len(OPERATIONS) - 1  # RandAugment and TrivialAugment have no Invert

NUM_AUTO_BINS = 10
TRANSLATED = 150 / 331  # share of a side, at most
Magnitudes = dict[str, float]
USUAL: Magnitudes = {"Shear": 0.3, "Rotate": 30.0, "factor": 0.9, "bits": 4.0}
"""At the last bin: tangent, degrees, above or below a factor of 1, bits that are lost."""
WIDE: Magnitudes = {"Shear": 0.99, "Rotate": 135.0, "factor": 0.99, "bits": 6.0, "Translate": 32.0}
"""Those of TrivialAugment (Müller and Hutter 2021); pixels of a translation."""

Work = Callable[[Tensor, Tensor], Tensor]


def draw_autoaugment(found: Augmentation, draws: Draws) -> Tensor:
    """Two steps of one of the 25 pairs: see `_steps`."""
    table = TABLES[str(found.strength)]
    drawn_N2 = torch.tensor([[OPERATIONS.index(step[0]) for step in pair] for pair in table])
    chance_N2 = torch.tensor([[step[1] / 10 for step in pair] for pair in table], dtype=torch.float64)
    bins_N2 = torch.tensor([[step[2] for step in pair] for pair in table])
    pair_N = draws.whole(len(table))
    happens = draws.uniform(2) <= chance_N2[pair_N]
    operations = torch.where(happens, drawn_N2[pair_N], 0)
    return _steps(operations, bins_N2[pair_N], NUM_AUTO_BINS, USUAL, draws)


def draw_randaugment(found: Augmentation, draws: Draws) -> Tensor:
    """So many steps of that magnitude: see `_steps`."""
    num, magnitude = map(int, str(found.strength).split(","))
    operations = draws.whole(NUM_DRAWN, num)
    return _steps(operations, torch.full_like(operations, magnitude), NUM_BINS, USUAL, draws)


def draw_trivialaugment(_found: Augmentation, draws: Draws) -> Tensor:
    """One step of any magnitude: see `_steps`."""
    operations, bins = draws.whole(NUM_DRAWN, 1), draws.whole(NUM_BINS, 1)
    return _steps(operations, bins, NUM_BINS, WIDE, draws)


def _steps(operations: Tensor, bins: Tensor, num_bins: int, largest: Magnitudes, draws: Draws) -> Tensor:
    """Float32 N,S,8: the operation, its strength, and where a pixel comes from, as six numbers of an affine map."""
    sign = torch.where(draws.uniform(operations.shape[1]) <= 0.5, -1.0, 1.0)
    share = bins.double() / (num_bins - 1)
    strength = torch.zeros_like(share)
    maps = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64).repeat(*operations.shape, 1)
    height, width = draws.height, draws.width
    for number, name in enumerate(OPERATIONS):
        own = operations == number
        if name.startswith("Shear"):  # around the corner, as torchvision does
            tangent = (sign * share * largest["Shear"])[own]
            across, along, side = (1, 2, height) if name == "ShearX" else (3, 5, width)
            maps[..., across][own], maps[..., along][own] = tangent, tangent * side / 2
        elif name.startswith("Translate"):
            side, along = (width, 2) if name == "TranslateX" else (height, 5)
            pixels = largest.get("Translate", TRANSLATED * side)
            at = torch.linspace(0.0, pixels, num_bins)[bins].trunc()  # in float32, as torchvision rounds
            maps[..., along][own] = -(sign * at.double())[own]
        elif name == "Rotate":
            angle = torch.deg2rad(sign * share * largest["Rotate"])[own]
            cosine, sine, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
            maps[own] = torch.stack([cosine, -sine, none, sine, cosine, none], -1)
        elif name in FACTORS:
            strength[own] = (1 + sign * share * largest["factor"])[own]
        elif name == "Posterize":
            strength[own] = 2.0 ** (8 - share * largest["bits"]).round()[own]
        elif name == "Solarize":
            strength[own] = 1 - share[own]
    return torch.cat([operations.unsqueeze(-1), strength.unsqueeze(-1), maps], -1).float()


def apply(_found: Augmentation, x_BCHW: Tensor, steps_BS8: Tensor, pixels: Pixels) -> Tensor:
    """One step after the other."""
    for step_B8 in steps_BS8.unbind(1):
        x_BCHW = _step(x_BCHW, step_B8, pixels)
    return x_BCHW


def _step(x_BCHW: Tensor, step_B8: Tensor, pixels: Pixels) -> Tensor:
    """What each image drew."""
    numbers = {name: number for number, name in enumerate(OPERATIONS)}

    def done(x_BCHW: Tensor, names: Sequence[str], work: Work) -> Tensor:
        low, high = numbers[names[0]], numbers[names[-1]]
        own_B = (step_B8[:, 0] >= low) & (step_B8[:, 0] <= high)
        if not host_is_free(x_BCHW):
            return torch.where(own_B[:, None, None, None], work(x_BCHW, step_B8), x_BCHW)
        rows = own_B.nonzero()[:, 0]
        return x_BCHW.index_copy(0, rows, work(x_BCHW[rows], step_B8[rows])) if len(rows) else x_BCHW

    def by_strength(function: Callable[[Tensor, Tensor], Tensor]) -> Work:
        return lambda x, step: function(x, step[:, 1])

    x_BCHW = done(x_BCHW, MOVES, lambda x, step: _moved(x, step[:, 2:], pixels.mean))
    for name, function in BY_STRENGTH.items():
        x_BCHW = done(x_BCHW, (name,), by_strength(function))
    for name, alone in ALONE.items():
        x_BCHW = done(x_BCHW, (name,), lambda x, _step, alone=alone: alone(x))  # type: ignore[misc]
    return x_BCHW


def host_is_free(x_BCHW: Tensor) -> bool:
    """Whether it may ask how many images there are; on other devices it would wait for them."""
    return x_BCHW.device.type == "cpu"


def _moved(x_BCHW: Tensor, map_B6: Tensor, fill_C11: Tensor) -> Tensor:
    """Each pixel of the place from which it comes, by an affine map around the middle."""
    num, _, height, width = x_BCHW.shape
    base_HW3 = x_BCHW.new_ones(height, width, 3)
    base_HW3[..., 0].copy_(torch.arange(width, device=x_BCHW.device) - (width - 1) / 2)
    base_HW3[..., 1].copy_((torch.arange(height, device=x_BCHW.device) - (height - 1) / 2)[:, None])
    map_B32 = map_B6.to(x_BCHW.dtype).view(num, 2, 3).transpose(1, 2)
    halves_2 = torch.stack([x_BCHW.new_full((), side / 2) for side in (width, height)])
    grid_BHW2 = (base_HW3.view(1, -1, 3).expand(num, -1, -1) @ (map_B32 / halves_2)).view(num, height, width, 2)
    with_mask = torch.cat([x_BCHW, torch.ones_like(x_BCHW[:, :1])], 1)
    moved = F.grid_sample(with_mask, grid_BHW2, mode="nearest", align_corners=False)
    return torch.where(moved[:, -1:] < 0.5, fill_C11, moved[:, :-1])


def _sharpness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Away from a blurred image, whose middle pixel counts five times; the outermost pixels stay."""
    if min(x_BCHW.shape[-2:]) <= 2:
        return x_BCHW
    inner = x_BCHW[..., 1:-1, 1:-1]
    blurred = (9 * F.avg_pool2d(x_BCHW, 3, 1) + 4 * inner) / 13
    factor_B111 = colours.by_image(factor_B, x_BCHW)
    return (x_BCHW + F.pad((1 - factor_B111) * (blurred - inner), (1,) * 4)).clamp(0, 1)


def _posterize(x_BCHW: Tensor, levels_B: Tensor) -> Tensor:
    levels = colours.by_image(levels_B, x_BCHW)
    return (x_BCHW * levels).floor().clamp(min=0).minimum(levels - 1) / levels


def _solarize(x_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    return torch.where(x_BCHW >= colours.by_image(threshold_B, x_BCHW), 1 - x_BCHW, x_BCHW)


def _autocontrast(x_BCHW: Tensor) -> Tensor:
    """torchvision's writes through a mask, for which a GPU's host would wait."""
    least, most = x_BCHW.amin((2, 3), keepdim=True), x_BCHW.amax((2, 3), keepdim=True)
    stretched = (x_BCHW - least) / torch.where(most > least, most - least, 1)
    return torch.where(most > least, stretched, x_BCHW).clamp(0, 1)


def _equalize(x_BCHW: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize_image  # takes a second to import

    equalized: Tensor = equalize_image(x_BCHW.clamp(0, 1))
    return equalized


BY_STRENGTH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": colours.brightened,
    "Color": colours.saturated,
    "Contrast": colours.contrasted,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
}
ALONE: dict[str, Callable[[Tensor], Tensor]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": lambda x_BCHW: 1 - x_BCHW,
}
