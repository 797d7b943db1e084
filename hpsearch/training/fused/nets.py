"""Which nets the fused engine knows, and by which of its layers."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from torch import nn

from hpsearch.errors import EngineError
from hpsearch.models import Dropout
from hpsearch.models.layers import DropConnect
from hpsearch.training.fused.convolution_choice import chooser_for, with_choices
from hpsearch.training.fused.convolutions import (
    AvgPool2d,
    Conv2d,
    Convolutions,
    Flatten,
    MaxPool2d,
)
from hpsearch.training.fused.layers import (
    ACTIVATIONS,
    SETTINGS,
    Activation,
    BatchNorm,
    Layer,
    Linear,
)
from hpsearch.training.fused.noises import ChannelDropout, DroppedLinear, HandDropout
from hpsearch.training.fused.norms import GroupNorm, LayerNorm
from hpsearch.training.state import PackState

Named = list[tuple[str, nn.Module]]


def hand_layers(module: nn.Module, state: PackState, follows: Collection[str]) -> list[Layer]:
    """The layers of a net that is a sequence: convolutions and pools, Flatten, then fully connected layers.

    `follows` names the weights whose rounded copies are changed with them.

    Raises:
        EngineError: it is none, or has a layer of another kind.
    """
    if not isinstance(module, nn.Sequential):
        raise EngineError(f"{type(module).__name__} is no sequence of layers.")
    if fixed := [name for name, _ in module.named_parameters() if name not in state.nets.parameters]:
        raise EngineError(f"{fixed[0]} does not train.")
    named = list(module.named_children())
    place = next((index for index, (_, layer) in enumerate(named) if type(layer) is nn.Flatten), len(named))
    before, after = named[:place], named[place + 1 :]
    bfloat16 = not before and state.train.precision == "bfloat16"
    layers = _fully_connected(after, state, follows, bfloat16=bfloat16)
    if before:
        make = partial(_convolutional, before, state)
        make(slice(None))  # raises here if it does
        layers.insert(0, Convolutions(state, module[:place], make))
    return layers


def _convolutional(named: Named, state: PackState, trials: slice) -> list[Layer]:
    layers = convolutional_operators(named, state, trials)
    return [*with_choices(layers, chooser_for(state.lr_K.device)), Flatten(state, "", trials)]


def convolutional_operators(named: Named, state: PackState, trials: slice) -> list[Layer]:
    """All that comes before Flatten, by PyTorch's operators.

    Raises:
        EngineError: a layer is not known, or not in this place.
    """
    layers: list[Layer] = []
    for name, layer in named:
        if type(layer) is nn.Conv2d:
            layers.append(Conv2d(state, name, trials, layer))
        elif not layers:
            raise _unknown(name, layer)
        elif type(layer) is nn.Identity:
            continue
        elif type(layer) is nn.BatchNorm2d:
            layers.append(BatchNorm(state, name, trials, layer))
        elif type(layer) is nn.GroupNorm:
            layers.append(GroupNorm(state, name, trials, layer))
        elif type(layer) is nn.AvgPool2d:
            layers.append(AvgPool2d(state, name, trials, layer))
        elif type(layer) is Dropout:
            layers.append(ChannelDropout(state, name, trials))
        elif type(layer) is nn.MaxPool2d:
            # What grows with its input commutes with the maximum, and is applied to a quarter of the numbers after it.
            place = len(layers) - (isinstance(layers[-1], Activation) and layers[-1].grows)
            layers.insert(place, MaxPool2d(state, name, trials, layer))
        elif _may_follow(layers, layer, (Conv2d, BatchNorm, GroupNorm, MaxPool2d)):
            layers.append(Activation(state, name, trials, layer))
        else:
            raise _unknown(name, layer)
    return layers


def _fully_connected(named: Named, state: PackState, follows: Collection[str], *, bfloat16: bool) -> list[Layer]:
    layers: list[Layer] = []
    for name, layer in named:
        first = not any(isinstance(each, Linear) for each in layers)
        if type(layer) is nn.Linear:
            linear = Linear(state, name, bfloat16=first and bfloat16, follows=f"{name}.weight" in follows)
            layers.append(linear)
        elif type(layer) is DropConnect and not first:
            layers.append(DroppedLinear(state, name, follows=f"{name}.weight" in follows))
        elif type(layer) is nn.BatchNorm1d and not first:
            layers.append(BatchNorm(state, name, slice(None), layer))
        elif type(layer) is nn.LayerNorm and not first:
            layers.append(LayerNorm(state, name, layer))
        elif type(layer) is nn.Identity:
            continue
        elif type(layer) is Dropout:
            layers.append(HandDropout(state, name))
        elif _may_follow(layers, layer, (Linear, BatchNorm, LayerNorm)):
            layers.append(Activation(state, name, slice(None), layer))
        else:
            raise _unknown(name, layer)
    if not layers or not isinstance(layers[-1], Linear):
        raise EngineError("the last layer is not linear.")
    return layers


def _may_follow(layers: list[Layer], layer: nn.Module, overwritten: tuple[type[Layer], ...]) -> bool:
    """Whether it is a known activation, and behind a layer whose output nobody needs any more."""
    exact = all(getattr(layer, key, value) == value for key, value in SETTINGS.items())
    return type(layer) in ACTIVATIONS and exact and bool(layers) and isinstance(layers[-1], overwritten)


def _unknown(name: str, layer: nn.Module) -> EngineError:
    return EngineError(f"{name} is a {type(layer).__name__}, in this place.")
