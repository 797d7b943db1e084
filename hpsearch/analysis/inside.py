"""What is wrong inside a net, from numbers on its units and gradients, and what to try: pure, without torch.

Source: CS231n, lectures 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpsearch.wording import count_text

MANY_DEAD = 0.4  # share of a layer's units, as in `hpsearch check`; nets that learn digits well have up to 0.46
MANY_IGNORING = 0.2  # share of a layer's units
MANY_ALIKE = 0.1  # share of a layer's pairs of units
MANY_AT_ENDS = 0.5  # share of a layer's outputs, as in `hpsearch check`
FADING = 1e-3  # gradient of the layer with the smallest over that with the largest, by weight

DEAD_ADVICE = (
    "lower train.lr, where steps kill units; another activation, as model.activation = gelu, whose units come back;"
    " or another model.init"
)


@dataclass(frozen=True)
class InsideFinding:
    """One look inside."""

    what: str
    ok: bool
    text: str
    """What was found."""
    advice: str = ""
    """What to try next; empty where nothing is wrong."""


@dataclass(frozen=True)
class LayerShares:
    """Of one layer."""

    name: str
    num_units: int
    num_dead: int | None = None
    """None where its units cannot die."""
    num_ignoring: int = 0
    alike: float = 0.0
    """Share of the pairs of units."""
    at_ends: float | None = None
    """Share of the outputs; None where there are no ends."""


def dead_units(layers: Sequence[LayerShares]) -> InsideFinding | None:
    """Units that are 0 for every image; None where units cannot die."""
    able = [layer for layer in layers if layer.num_dead is not None]
    if not able:
        return None
    num_dead, num_units = sum(layer.num_dead or 0 for layer in able), sum(layer.num_units for layer in able)
    if not num_dead:
        return InsideFinding("dead units", True, f"none of {num_units:,}")
    worst = max(able, key=lambda layer: (layer.num_dead or 0) / layer.num_units)
    where = f" ({worst.num_dead} of {worst.num_units} in {worst.name})" if len(able) > 1 else ""
    text = f"{num_dead:,} of {num_units:,}{where}, at 0 for every image"
    is_many = (worst.num_dead or 0) >= MANY_DEAD * worst.num_units
    return InsideFinding("dead units", not is_many, text, DEAD_ADVICE if is_many else "")


def dead_note(shares: Mapping[str, Sequence[float]]) -> str | None:
    """The same in a line for those who look at one trial; None where no unit is dead.

    Args:
        shares: by layer, the share of images for which each unit is 0.
    """
    found = dead_finding(shares)
    if found is None:
        return None
    return f"dead units: {found.text}{f': {found.advice}' if found.advice else ''}"


def dead_finding(shares: Mapping[str, Sequence[float]]) -> InsideFinding | None:
    """The same as a finding; None where no unit is dead."""
    layers = [
        LayerShares(name, len(units), sum(share >= 1 for share in units))
        for name, units in shares.items()
        if len(units)
    ]
    found = dead_units(layers)
    return None if found is None or found.text.startswith("none") else found


def look_inside(
    layers: Sequence[LayerShares],
    filters_alike: float | None = None,
    start: Mapping[str, float] | None = None,
    end: Mapping[str, float] | None = None,
) -> list[InsideFinding]:
    """All there is to say.

    Args:
        layers: hidden ones, in order.
        filters_alike: share of the pairs of first-layer filters; None where there are no filters.
        start: size of the gradient of each layer, before training.
        end: the same, with the weights that are kept.
    """
    found = [
        dead_units(layers),
        _saturated(layers),
        _ignoring(layers),
        _alike(layers),
        _filters(filters_alike),
        _gradients("gradients at the start", start),
        _gradients("gradients at the end", end),
    ]
    return [each for each in found if each is not None]


def _saturated(layers: Sequence[LayerShares]) -> InsideFinding | None:
    worst = max((layer for layer in layers if layer.at_ends is not None), key=lambda at: at.at_ends or 0, default=None)
    if worst is None:
        return None
    share = worst.at_ends or 0.0
    text = f"{share:.0%} of the outputs of {worst.name} are at the ends of its activation"
    advice = "a smaller model.init or model.init_scale, a lower train.lr, or model.activation = relu"
    return InsideFinding("saturated", share < MANY_AT_ENDS, text, advice if share >= MANY_AT_ENDS else "")


def _ignoring(layers: Sequence[LayerShares]) -> InsideFinding | None:
    if not layers:
        return None
    worst = max(layers, key=lambda layer: layer.num_ignoring / layer.num_units)
    if not worst.num_ignoring:
        return InsideFinding("units that ignore the image", True, "none")
    is_many = worst.num_ignoring >= MANY_IGNORING * worst.num_units
    text = f"{worst.num_ignoring} of {count_text(worst.num_units, 'unit')} in {worst.name} say the same of every image"
    advice = "fewer units (model.hidden, model.channels), less regularization, or a lower train.lr"
    return InsideFinding("units that ignore the image", not is_many, text, advice if is_many else "")


def _alike(layers: Sequence[LayerShares]) -> InsideFinding | None:
    if not layers:
        return None
    worst = max(layers, key=lambda layer: layer.alike)
    text = f"{_pairs(worst.alike)} in {worst.name} with a correlation of 0.9 or more"
    advice = "fewer units there (model.hidden, model.channels), or model.dropout"
    is_many = worst.alike >= MANY_ALIKE
    return InsideFinding("units that say the same", not is_many, text, advice if is_many else "")


def _filters(alike: float | None) -> InsideFinding | None:
    if alike is None:
        return None
    text = f"{_pairs(alike)} with a correlation of 0.9 or more"
    advice = "fewer filters in the first layer, or a model.init that is larger"
    return InsideFinding("first filters", alike < MANY_ALIKE, text, advice if alike >= MANY_ALIKE else "")


def _pairs(share: float) -> str:
    return f"{share:.1%} of the pairs" if share else "no pair"


def _gradients(what: str, sizes: Mapping[str, float] | None) -> InsideFinding | None:
    if sizes is None or len(sizes) < 2:
        return None
    if lost := [name for name, size in sizes.items() if not math.isfinite(size)]:
        return InsideFinding(what, False, f"not finite in {lost[0]}", "a lower train.lr, or a smaller model.init")
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if not sizes[most] > 0:
        return InsideFinding(what, False, "0 in every layer", "another model.init, or a lower train.lr")
    ratio = sizes[least] / sizes[most]
    text = f"from {sizes[least]:.1e} in {least} to {sizes[most]:.1e} in {most}, by weight"
    advice = "model.init = he or xavier, model.batch_norm = true, or fewer layers: some layers hardly learn"
    return InsideFinding(what, ratio >= FADING, text, advice if ratio < FADING else "")
