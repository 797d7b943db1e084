"""What the parts of a script do not have: known from what the trial was trained with, before an image is read."""

from __future__ import annotations

from hpsearch.config import StudyConfig
from hpsearch.config.augmentations import active, is_own
from hpsearch.config.losses import CROSS_ENTROPY
from hpsearch.errors import ConfigError

OTHERWISE = "-f toml, which hpsearch train takes"
OF_COLOURS = ("brightness", "contrast", "saturation", "hue", "autoaugment", "randaugment", "trivialaugment")
GREY_OR_RGB = (1, 3)  # channels for which torchvision has these


def refuse_unwritten(config: StudyConfig, num_channels: int | None = None) -> None:
    """Whether a script can train what `config` says, of images of so many channels. Pure.

    Raises:
        ConfigError: it cannot; the message names the key, and what can.
    """
    if (folds := config.data.folds) is not None:
        raise ConfigError(
            f"data.folds = {folds} trains {folds} nets, and a script trains one.\n"
            f"Allowed: -f py of a study without data.folds; or {OTHERWISE}."
        )
    if (unwritten := _unwritten(config)) is not None:
        raise ConfigError(f"{unwritten} is not written into a script.\nAllowed: {OTHERWISE}.")
    for each in active(config.data.augment):
        if each.kind.name in OF_COLOURS and num_channels is not None and num_channels not in GREY_OR_RGB:
            raise ConfigError(
                f"data.augment has {each} of images of {num_channels} channels, for which torchvision has none.\n"
                f"Allowed: images of 1 or 3 channels; or {OTHERWISE}."
            )


def _unwritten(config: StudyConfig) -> str | None:
    if config.train.step is not None:
        return f"train.step = {config.train.step!r}, which takes the place of the loss,"
    if config.train.loss != CROSS_ENTROPY:
        return f"train.loss = {config.train.loss!r}"
    if config.train.distill > 0:
        return f"train.distill = {config.train.distill:.3g}, learning from a teacher,"
    own = next(filter(is_own, config.data.augment), None)
    return f"data.augment = {own!r}" if own is not None else None
