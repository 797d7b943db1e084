"""What a practitioner changes in a study file, by what holds the best trial back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpsearch.analysis.commands import usual_space
from hpsearch.config.augmentation_fit import UPRIGHT
from hpsearch.wording import count_text

Plain = Mapping[str, Any]
Shape = tuple[int, int, int]  # channels, height, width

FULLY_CONNECTED = ("linear", "mlp")
SMALLEST_SIDE = 8  # pixels; below, convolutions and pools have nothing to do
MAX_BLOCKS = 4  # of a convnet that is made larger block by block; then a ResNet
DROPOUT = 0.3  # a middling share; what is best is to be searched
WIDER = 4  # times the units
DECADES = 4  # of rates, beyond a range in which nothing trains
MANY = 7  # explosions: were half of a range good, so many random trials would all explode once in 128 searches
LARGEST_DECAY = 1.0  # lr x train.reg above which the penalty alone makes the weights swing apart


@dataclass(frozen=True)
class Remedy:
    """What to change: in words, and by dotted path (empty where that is not known); and a name for such a search."""

    text: str
    changes: Mapping[str, Any]
    name: str


def convolutions(config: Plain, shape: Shape | None) -> Remedy | None:
    """A convnet in the place of a net that knows nothing of neighbours; None where that is not the question.

    It needs fewer weights for the same, so it is what to try first, whether such a net over- or underfits.
    """
    if config["model"]["name"] not in FULLY_CONNECTED or shape is None or min(shape[1:]) < SMALLEST_SIDE:
        return None
    return Remedy("try a convnet", {"model.name": "convnet", **_usual_scales(config, "convnet")}, "convnet")


def larger_net(config: Plain, shape: Shape | None) -> Remedy:
    """The next net up; without changes where there is none that we know."""
    model = config["model"]
    side = min(shape[1:]) if shape is not None else 0
    match model["name"]:
        case "lenet" if side >= SMALLEST_SIDE:
            return Remedy("try a convnet", {"model.name": "convnet", **_usual_scales(config, "convnet")}, "convnet")
        case "linear":
            return Remedy("try a hidden layer", {"model.name": "mlp", **_usual_scales(config, "mlp")}, "mlp")
        case "mlp":
            hidden = [WIDER * units for units in model["hidden"]]
            name = "-".join(map(str, ["hidden", *hidden]))
            return Remedy("try a wider net", {"model.hidden": hidden}, name)
        case "convnet":
            channels = list(model["channels"])
            if len(channels) >= MAX_BLOCKS or (model["pool"] and 2 ** (len(channels) + 1) > side):
                return Remedy("try a ResNet", {"model.name": "resnet"}, "resnet")
            channels.append(2 * channels[-1])
            name = "-".join(map(str, ["channels", *channels]))
            return Remedy("try one block more", {"model.channels": channels}, name)
        case "resnet" if (depth := {18: 34, 34: 50}.get(model["depth"])) is not None:
            return Remedy("try a deeper net", {"model.depth": depth}, f"resnet-{depth}")
    return Remedy("try a larger net", {}, "larger")


def _usual_scales(config: Plain, model: str) -> dict[str, Any]:
    """Weights of std 1e-4 and pixels up to 255, as the lectures have them, carry no signal through several layers."""
    if not str(config["model"]["init"]).startswith("small"):
        return {}
    return {"model.init": "he", "data.scale": 1, "space.lr": usual_space({**config, "model": {"name": model}})["lr"]}


def less_overfitting(config: Plain, shape: Shape | None) -> Remedy:
    """More images, made of those that are there; then dropout; then there is only collecting more."""
    data, model = config["data"], config["model"]
    augment = list(data["augment"])
    kinds = {kind.partition(":")[0] for kind in augment}
    side = min(shape[1:]) if shape is not None else 0
    if "hflip" not in kinds and data["source"] not in UPRIGHT and not kinds:
        text = "make more of the images, by mirroring (where a mirrored one is as good)"
        return Remedy(text, {"data.augment": [*augment, "hflip"]}, "hflip")
    if "crop" not in kinds and side >= SMALLEST_SIDE:
        pixels = max(1, side // SMALLEST_SIDE)
        text = f"make more of the images, by shifts of up to {count_text(pixels, 'pixel')}"
        return Remedy(text, {"data.augment": [*augment, f"crop:{pixels}"]}, "crop")
    searched = config.get("space", {})
    if not model["dropout"] and "model.dropout" not in searched and ":" not in model["name"]:
        return Remedy("try dropout", {"model.dropout": DROPOUT}, "dropout")
    return Remedy("more images would help most, then a smaller net", {}, "smaller")


def other_rates(config: Plain, way: str, *, decades: int = 1) -> Remedy | None:
    """A range of lr beyond the one that was searched, `higher` or `lower`."""
    searched = config.get("space", {}).get("lr")  # two ends, or any number of choices
    rates = next(iter(searched.values())) if searched else [config["train"]["lr"]]
    if not all(isinstance(rate, int | float) for rate in rates) or max(rates) <= 0:
        return None
    low, high = min(rates), max(rates)
    low = low if low > 0 else high / 10**DECADES
    ends = [high, high * 10**decades] if way == "higher" else [low / 10**decades, low]
    return _range(ends, way)


def rates_below(config: Plain, exploded: Sequence[Plain]) -> Remedy | None:
    """Lower rates after nothing but explosions: below the range after many, after few of it what they leave as well.

    Args:
        config: of the search, plain and whole.
        exploded: the values of the trials that did.
    """
    remedy = other_rates(config, "lower", decades=DECADES if len(exploded) >= MANY else 1)
    rates = [lr for params in exploded if isinstance(lr := params.get("lr"), float)]
    if remedy is None or len(exploded) >= MANY or not rates:
        return remedy
    low, high = remedy.changes["space.lr"]["log"]
    return _range([low, max(high, min(rates))], "lower")


def num_swung(config: Plain, exploded: Iterable[Plain]) -> int:
    """How many trials had so much weight decay that it explodes by itself: a step of lr takes more than all weights."""
    given = config["train"]
    decays = (params.get("lr", given["lr"]) * params.get("reg", given["reg"]) for params in exploded)
    return sum(decay >= LARGEST_DECAY for decay in decays)


def _range(ends: Sequence[float], name: str) -> Remedy:
    return Remedy("", {"space.lr": {"log": [float(f"{end:.2g}") for end in ends]}}, name)
