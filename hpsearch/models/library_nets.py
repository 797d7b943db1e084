"""Nets of torchvision and timm, by their names there: with a new head, for images of any number of channels.

Names of parameters stay the library's own, so that weights can go back and forth. Shapes: B = batch, C = channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpsearch.config import ModelConfig
from hpsearch.config.library_recipes import import_timm, timm_with, torchvision_builder
from hpsearch.errors import ConfigError, HpsearchError
from hpsearch.models.early_nets import end_early
from hpsearch.models.layers import Dropout
from hpsearch.models.stages import head_names, parts_of, set_head

MakeHead = Callable[[int], nn.Module]
"""From the number of features."""

NUM_COLORS = 3  # channels that the libraries' nets take
# Of torchvision: nets that take one size of images, which has to be said.
SIZED = {"vit": "image_size", "maxvit": "input_size"}
WITH_INIT = ("googlenet", "inception_v3")  # of torchvision: whose weights are drawn only if that is asked for


class Head(nn.Linear):
    """One layer from features to logits, with dropout before it where there is any, under the library's names."""

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__(num_features, num_classes)
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """logits_BC of what may have places of size 1 behind it."""
        return super().forward(self.dropout(x.flatten(1)))


def build_library_net(config: ModelConfig, shape: tuple[int, int, int], seed: int, make_head: MakeHead) -> nn.Module:
    """The net with the library's own initial weights, drawn from `seed`, and a head that is not initialized.

    Its first filters are summed over their channels for grey images, which gives what three equal channels gave; for
    other numbers of channels they are repeated, and as much smaller. Nets that end in a convolution, as SqueezeNet,
    pool before it, and end in logits of both signs. Auxiliary heads are left out. With model.freeze, what stays needs
    no gradient and is in evaluation mode always: batch normalization keeps its statistics, and nothing is dropped. With
    model.features, it ends after its first stages.

    Raises:
        ConfigError: the library has no such net, or it takes no images of this size.
        MissingExtraError: the library is not installed.
    """
    library, _, name = config.name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            net = _torchvision_net(name, shape) if library == "torchvision" else timm_net(name, shape)
        except HpsearchError:
            raise
        except Exception as error:  # whatever they say of a size
            raise ConfigError(
                f"model.name = {config.name!r} takes no images of {shape[1]}x{shape[2]}: {error}\n"
                "Allowed: the sizes of that net; for a folder, data.size sets it."
            ) from error
        _replace_heads(net, config.name, make_head)
        fit_first_filters(net, shape[0], config.name)
        if config.features != "last":
            net = end_early(net, int(config.features), shape, make_head, config.name)
    freeze(net, config.freeze)
    return net


def library_options(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What its library is told to build torchvision:NAME or timm:NAME without weights, for images of this shape.

    Raises:
        ConfigError: it takes squares alone.
        MissingExtraError: the library is not installed.
    """
    library, _, own_name = name.partition(":")
    if library == "timm":
        return _timm_options(own_name, shape)
    return _torchvision_options(own_name, shape)


def timm_net(name: str, shape: tuple[int, int, int], **options: Any) -> nn.Module:
    """A net of timm for colour images of this size; those that take one size alone are told.

    Raises:
        ConfigError: there is none of that name.
        MissingExtraError: timm is not installed.
    """
    timm = timm_with(name)
    net: nn.Module = timm.create_model(name, num_classes=1000, **_timm_options(name, shape), **options)
    return net


def _timm_options(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    sized = import_timm().get_pretrained_cfg(name).fixed_input_size
    return {"img_size": shape[1:]} if sized else {}


def _torchvision_net(name: str, shape: tuple[int, int, int]) -> nn.Module:
    net: nn.Module = torchvision_builder(name)(weights=None, **_torchvision_options(name, shape))
    return net


def _torchvision_options(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    _, height, width = shape
    options: dict[str, Any] = {}
    if (key := SIZED.get(name.partition("_")[0])) is not None:
        if height != width:
            raise ValueError("height and width differ")
        options[key] = height if key == "image_size" else (height, width)
    if name in WITH_INIT:
        options |= {"aux_logits": False, "init_weights": True}
    return options


def _replace_heads(net: nn.Module, name: str, make_head: MakeHead) -> None:
    for place in _old_heads(net, name):
        parent = net.get_submodule(place.rpartition(".")[0])
        own_name = place.rpartition(".")[2]
        old = net.get_submodule(place)
        num_features = old.in_features if isinstance(old, nn.Linear) else old.in_channels
        head = make_head(int(num_features))  # type: ignore[arg-type]
        if isinstance(old, nn.Conv2d) and isinstance(parent, nn.Sequential):
            before = [*parent.named_children()][: [*parent._modules].index(own_name)]
            for child in [*parent._modules]:
                del parent._modules[child]
            for child, module in [*before, ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]:
                parent.add_module(child, module)
        parent.add_module(own_name, head)


def _old_heads(net: nn.Module, name: str) -> tuple[str, ...]:
    """Where the library's own heads are; the net is told."""
    if not hasattr(net, "get_classifier"):
        names = head_names(net)
    else:
        found = net.get_classifier()  # type: ignore[operator]
        several = found if isinstance(found, tuple | list) else (found,)
        names = tuple(place for place, module in net.named_modules() if any(module is each for each in several))
    if not names or not all(isinstance(net.get_submodule(each), nn.Linear | nn.Conv2d) for each in names):
        raise ConfigError(f"model.name = {name!r} ends in no layer that could be replaced.\nAllowed: another net.")
    set_head(net, names)
    return names


def first_filters(net: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The convolution that looks at the images, with its name."""
    return next(((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1), None)


def fit_first_filters(net: nn.Module, channels: int, name: str) -> None:
    """Make the net take images of so many channels.

    Raises:
        ConfigError: it does not begin with a convolution of three.
    """
    found = first_filters(net)
    if found is not None and found[1].in_channels == channels:
        return
    if found is None or found[1].in_channels != NUM_COLORS:
        raise ConfigError(
            f"model.name = {name!r} takes images of {NUM_COLORS} channels, these have {channels}.\n"
            "Allowed: colour images, or another net."
        )
    layer = found[1]
    layer.weight = nn.Parameter(fitted_filters(layer.weight.detach(), channels))
    layer.in_channels = channels


def fitted_filters(weight: Tensor, channels: int) -> Tensor:
    """Filters of three channels for images of others."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // NUM_COLORS), 1, 1)[:, :channels]
    return repeated * (NUM_COLORS / channels)


def freeze(net: nn.Module, kept: str | int) -> None:
    """Let only the head train ("all"), or the last stages with it (their number), or the whole net ("none").

    Raises:
        ConfigError: there are not so many stages.
    """
    if kept == "none":
        return
    parts = parts_of(net)
    num_trained = 0 if kept == "all" else int(kept)
    if num_trained > len(parts.stages):
        raise ConfigError(
            f"model.freeze = {kept} lets more stages train than the net has.\nAllowed: none, all, or 1 to "
            f"{len(parts.stages)}."
        )
    frozen = parts.stages[: len(parts.stages) - num_trained]
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not any(name in stage.parameters for stage in frozen))
    if kept == "all":
        heads = head_names(net)
        outside = [module for name, module in net.named_modules() if not _touches(name, heads)]
    else:
        outside = [net.get_submodule(name) for stage in frozen for name in stage.modules]
    for module in outside:
        _stay_in_evaluation(module)


def _touches(name: str, heads: tuple[str, ...]) -> bool:
    """Whether a module holds the head, or is in it."""
    return not name or any(f"{head}.".startswith(f"{name}.") or name.startswith(f"{head}.") for head in heads)


def _stay_in_evaluation(module: nn.Module) -> None:
    """Whatever mode its net is in."""
    module.eval()
    module.train = lambda _mode=True: module  # type: ignore[method-assign,assignment]
