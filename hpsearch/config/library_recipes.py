"""What a library says of the weights of its nets, read without building or downloading one: size, mean, std, origin.

torchvision takes a second to import: this is called only where such a net is named with its weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hpsearch.config.net_names import has_given_weights
from hpsearch.errors import ConfigError, MissingExtraError

CENTERED = ("googlenet", "inception_v3")
"""Of torchvision: their weights were trained on pixels from -1 to 1, to which its `transform_input` maps others."""


@dataclass(frozen=True)
class Recipe:
    """How the images were made on which a library trained a net."""

    size: int
    """Height and width."""
    mean: tuple[float, ...]
    """By channel, of pixels from 0 to 1."""
    std: tuple[float, ...]
    origin: str
    """The library's name of the weights."""
    url: str
    """Where they are; empty where nobody offers them."""


@lru_cache
def recipe(name: str) -> Recipe:
    """Of a net by its model.name.

    Raises:
        ConfigError: the library has no such net, or no weights of it; the message has the nearest names.
        MissingExtraError: the library is not installed.
    """
    library, _, net = name.partition(":")
    return _of_torchvision(net) if library == "torchvision" else _of_timm(net)


def refuse_unknown(name: str) -> None:
    """Whether the library has a net of that name: asked before images are read, which may take minutes.

    Raises:
        ConfigError, MissingExtraError: it has none, or is not installed.
    """
    library, _, net = name.partition(":")
    if library == "torchvision":
        torchvision_builder(net)
    else:
        timm_with(net)


def filled_in(study: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a study file with what a net's own weights ask of its images, where nothing is said of it.

    Raises:
        ConfigError, MissingExtraError: as `recipe`.
    """
    model, data = study.get("model"), study.get("data", {})
    if not (isinstance(model, Mapping) and isinstance(data, Mapping) and has_given_weights(model)):
        return dict(study)
    wanted: dict[str, Any] = {"normalize": "pretrained"}
    if str(data.get("source")).lower().startswith("folder:") and "size" not in data:
        wanted["size"] = recipe(model["name"]).size
    return {**study, "data": {**wanted, **data}}


def import_timm() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import timm
    except ImportError:
        raise MissingExtraError("a model.name of timm:NAME", "timm", "timm") from None
    return timm


def timm_with(net: str) -> Any:
    """The package, which has this net.

    Raises:
        ConfigError: it has none of that name.
        MissingExtraError: it is not installed.
    """
    timm = import_timm()
    if not timm.is_model(net):
        raise unknown_net("timm", net, timm.list_models())
    return timm


def unknown_net(library: str, net: str, nets: Sequence[str]) -> ConfigError:
    """There is no such net; which are like it."""
    near = difflib.get_close_matches(net, nets, n=4, cutoff=0.0)
    return ConfigError(
        f"model.name = '{library}:{net}' is not a net of {library}.\n"
        f"Nearest: {', '.join(f'{library}:{each}' for each in near)}; {len(nets)} in all."
    )


def torchvision_builder(net: str) -> Any:
    """The function of torchvision that builds a classifier.

    Raises:
        ConfigError: there is none of that name.
    """
    from torchvision import models

    nets = models.list_models(module=models)
    if net not in nets:
        raise unknown_net("torchvision", net, nets)
    return models.get_model_builder(net)


def torchvision_weights(net: str) -> Any:
    """torchvision's newest weights of a classifier.

    Raises:
        ConfigError: there is no such net.
    """
    from torchvision import models

    torchvision_builder(net)
    return models.get_model_weights(net).DEFAULT


def _of_torchvision(net: str) -> Recipe:
    weights = torchvision_weights(net)
    images = weights.transforms()
    mean, std = tuple(images.mean), tuple(images.std)
    if net in CENTERED:
        mean, std = (0.5,) * 3, (0.5,) * 3
    return Recipe(images.crop_size[0], mean, std, f"torchvision's {weights.name}", weights.url)


def _of_timm(net: str) -> Recipe:
    timm = timm_with(net)
    found = timm.get_pretrained_cfg(net)
    hub = f"https://huggingface.co/{found.hf_hub_id}" if found.hf_hub_id else ""
    origin = f"timm's {found.tag or net}"
    return Recipe(found.input_size[-1], tuple(found.mean), tuple(found.std), origin, hub or found.url or "")
