"""What the units of a net do over some images: how they are spread, whether they are dead, ignore the image, or agree.

Source: CS231n, lectures 6 and 7, and its notes on looking into nets. Shapes: B = images, C = channels or units, P =
places of a convolution, N = samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanh, nn.Sigmoid,
)  # fmt: skip
"""Activation functions; what follows them is looked at."""
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What is looked at where a net has none of these as modules: it is seen before its activations then."""
DYING = (nn.ReLU, nn.ReLU6)  # whose units, once 0 for every image, get no gradient that would bring them back
ENDS = {nn.Tanh: (-1.0, 1.0), nn.Sigmoid: (0.0, 1.0)}  # between which outputs lie

END = 0.01  # of the span between the ends: nearer to one, gradients have vanished
IGNORES = 0.01  # std of a unit over the images, of its layer's: below, it says the same of every image
ROUNDING = 1e-6  # of the size of its numbers: a smaller std is none
ALIKE = 0.9  # correlation, of either sign, from which on two units say the same
BINS = 40
MOST_UNITS = 128  # whose correlations are taken, evenly spaced
MOST_SAMPLES = 4096  # images and places over which they are taken, evenly spaced


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """One layer's outputs over some images."""

    name: str
    num_units: int
    mean: float
    std: float
    """Over all of its numbers, as a histogram shows it."""
    zeros: float
    """Share of its numbers that are exactly 0."""
    at_ends: float | None
    """Share of them at the ends of a tanh or sigmoid; None where there are no ends."""
    num_dead: int | None
    """Units that are 0 for every image and at every place, perhaps of other images; None where units cannot die."""
    num_ignoring: int
    """Others that are the same for every image."""
    correlations: npt.NDArray[np.float32]
    """Of pairs of units, nan with a unit that does not vary: [C, C] of at most 128 of them."""
    counts: tuple[int, ...]
    """Of a histogram in equal steps."""
    low: float
    high: float
    """Ends of the histogram."""
    places: npt.NDArray[np.float32] | None = None
    """Of a convolution, what it makes of the first image: [C, height, width]."""
    responses: npt.NDArray[np.float32] | None = None
    """Mean over the places, of each image and unit: [B, C] of at most 128 of both, evenly spaced."""

    @property
    def share_alike(self) -> float:
        """Of the pairs of units."""
        return share_alike(self.correlations)


@torch.no_grad()
def look_at_layers(
    net: nn.Module, x_BCHW: Tensor, silent: Mapping[str, Sequence[float]] | None = None
) -> list[LayerStatistics]:
    """Each call of an activation function in a net, in order; or of a layer with weights but the last, where a net has
    no activation functions that are modules.

    Args:
        net: in the mode in which it is to be looked at.
        x_BCHW: images; the first of them is the one whose feature maps are kept.
        silent: by layer, the share of other images for which each unit is 0, where it is known; it says who is dead.
    """
    modules = list(net.named_modules())
    watched = [named for named in modules if isinstance(named[1], POINTWISE)]
    watched = watched or [named for named in modules if isinstance(named[1], WEIGHTED)][:-1]
    found: list[LayerStatistics] = []
    calls: Counter[str] = Counter()

    def observe(name: str, module: nn.Module, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(x_BCHW):
            return
        calls[name] += 1  # a ResNet calls one module twice in a block
        called = name if calls[name] == 1 else f"{name}#{calls[name]}"
        found.append(layer_statistics(called, module, output, (silent or {}).get(called)))

    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: observe(name, module, output))
        for name, module in watched
    ]
    try:
        net(x_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def layer_statistics(
    name: str, module: nn.Module, output: Tensor, silent: Sequence[float] | None = None
) -> LayerStatistics:
    """Of what a module put out: [B, C, places], or [B, tokens, C] behind a layer for vectors that come in rows.

    Who is dead is said by `silent`, the share of other images for which each unit is 0; else by these images.
    """
    x_BCP = _units(output.detach())
    rms_C = x_BCP.double().square().mean((0, 2)).sqrt()
    std_C = x_BCP.double().std(0, correction=0).square().mean(1).sqrt()
    typical = float(std_C.square().mean().sqrt())
    same_C = (std_C <= IGNORES * typical) | (std_C <= ROUNDING * rms_C)
    dead_C = (x_BCP == 0).all(0).all(1) if isinstance(module, DYING) else None
    if dead_C is not None and silent is not None and len(silent) == len(dead_C):
        dead_C = torch.tensor(silent, device=dead_C.device) >= 1
    finite = x_BCP[x_BCP.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    images, shown = (slice(None, None, max(1, math.ceil(num / MOST_UNITS))) for num in x_BCP.shape[:2])
    return LayerStatistics(
        name=name,
        num_units=x_BCP.shape[1],
        mean=float(x_BCP.double().mean()),
        std=float(x_BCP.double().std(correction=0)),
        zeros=float((x_BCP == 0).double().mean()),
        at_ends=_at_ends(module, x_BCP),
        num_dead=None if dead_C is None else int(dead_C.sum()),
        num_ignoring=int(same_C.sum() if dead_C is None else (same_C & ~dead_C).sum()),
        correlations=correlations(_samples(x_BCP[:, shown])).float().cpu().numpy(),
        counts=tuple(torch.histc(finite.float().cpu(), BINS, low, high).long().tolist()),
        low=low,
        high=high,
        places=output[0].float().cpu().clone().numpy() if output.ndim == 4 else None,
        responses=x_BCP[images, shown].float().mean(2).cpu().numpy(),
    )


def correlations(x_CN: Tensor) -> Tensor:
    """Pearson's, of each pair of rows, [C, C] in float64; nan with a row that does not vary."""
    x_CN = x_CN.double()
    centred_CN = x_CN - x_CN.mean(1, keepdim=True)
    length_C = centred_CN.norm(dim=1)
    length_C = torch.where(length_C > ROUNDING * x_CN.norm(dim=1), length_C, torch.nan)
    unit_CN = centred_CN / length_C[:, None]
    return (unit_CN @ unit_CN.T).clamp(-1, 1)


def share_alike(correlations_CC: npt.NDArray[Any]) -> float:
    """Of the pairs of rows that vary, those with a correlation of at least 0.9, of either sign; 0 if there are none."""
    pairs = correlations_CC[np.triu_indices(len(correlations_CC), 1)]
    pairs = pairs[~np.isnan(pairs)]
    return float((np.abs(pairs) >= ALIKE).mean()) if len(pairs) else 0.0


def filter_correlations(weight: Tensor) -> Tensor:
    """Of the filters of a layer, [out, in, ...], of at most 128 of them."""
    every = max(1, math.ceil(len(weight) / MOST_UNITS))
    return correlations(weight.detach()[::every].flatten(1))


def _units(output: Tensor) -> Tensor:
    """[B, C, P]."""
    if output.ndim == 3:  # tokens in rows, as in a transformer
        return output.transpose(1, 2)
    return output.flatten(2) if output.ndim > 2 else output[:, :, None]


def _samples(x_BCP: Tensor) -> Tensor:
    """[C, N]: of all images and places, some that are evenly spaced."""
    x_CN = x_BCP.transpose(0, 1).flatten(1)
    return x_CN[:, :: max(1, math.ceil(x_CN.shape[1] / MOST_SAMPLES))]


def _at_ends(module: nn.Module, x_BCP: Tensor) -> float | None:
    ends = next((ends for kind, ends in ENDS.items() if isinstance(module, kind)), None)
    if ends is None:
        return None
    low, high = ends
    near = END * (high - low)
    return float(((x_BCP < low + near) | (x_BCP > high - near)).double().mean())
