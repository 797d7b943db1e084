"""What lies before each activation: model.norm as layers.

All are PyTorch's own. Of an image's channels, layer normalization is one group of all, instance normalization a group
of each (Wu & He 2018), with a scale and a shift for each channel.
"""

from __future__ import annotations

from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.errors import ConfigError

SUBTRACTING = ("batch", "instance")  # the mean of each channel, and a bias with it


def norm_of_channels(config: ModelConfig, num_channels: int) -> nn.Module | None:
    """Behind a convolution; None where there is none.

    Raises:
        ConfigError: the channels are no multiple of model.groups.
    """
    match config.normalization:
        case "batch":
            return nn.BatchNorm2d(num_channels)
        case "layer":
            return nn.GroupNorm(1, num_channels)
        case "instance":
            return nn.GroupNorm(num_channels, num_channels)
        case "group":
            if num_channels % config.groups:
                raise ConfigError(
                    f"model.groups = {config.groups} does not divide a layer of {num_channels} channels.\n"
                    f"Allowed: a divisor of the channels of each layer, or model.norm = 'layer', one group of all."
                )
            return nn.GroupNorm(config.groups, num_channels)
    return None


def norm_of_units(config: ModelConfig, num_units: int) -> nn.Module | None:
    """Behind a fully connected layer; None where there is none, as with those that are of channels alone."""
    match config.normalization:
        case "batch":
            return nn.BatchNorm1d(num_units)
        case "layer":
            return nn.LayerNorm(num_units)
    return None
