"""Which augmentation does not fit the task, where the images are those of a source that we know."""

from __future__ import annotations

from collections.abc import Iterator

from hpsearch.config.augmentations import AUGMENT, active
from hpsearch.config.ranges import Choice
from hpsearch.config.study import StudyConfig

UPRIGHT = ("digits", "mnist", "svhn")
"""Sources of which a mirrored image is another one, or none."""

MOST_DEGREES = 90  # beyond, a 6 becomes a 9
STAGES = ("coarse", "fine")


def misfits(config: StudyConfig) -> list[str]:
    """A sentence on each kind of augmentation that makes an image of another class, or of none; also where searched."""
    source = config.data.source
    largest: dict[str, float] = {}
    for name, strength in _kinds(config):
        largest[name] = max(largest.get(name, 0.0), strength)
    digit = f"a mirrored digit of {source} is another one, or none"
    said = []
    if source in UPRIGHT:
        said += [f"data.augment has {name}, but {digit}" for name in ("hflip", "vflip") if name in largest]
        if (degrees := largest.get("rotate", 0.0)) > MOST_DEGREES:
            said.append(f"data.augment turns by up to {degrees:g} degrees, but a 6 of {source} is a 9 then")
    elif source == "fashion-mnist" and "vflip" in largest:
        said.append("data.augment has vflip, but all clothes of fashion-mnist hang upright")
    return said


def _kinds(config: StudyConfig) -> Iterator[tuple[str, float]]:
    """All that trials may have, with the strength of those that have a number."""
    lists = [config.for_stage(stage).data.augment for stage in STAGES]
    if isinstance(range_ := config.space.get("data.augment"), Choice):
        lists = [(value,) if isinstance(value, str) else value for value in range_.values]
    for name, range_ in config.space.items():
        if name.startswith(f"data.{AUGMENT}"):
            ends = range_.values if isinstance(range_, Choice) else (range_.high,)
            lists += [config.with_params({name: value}).data.augment for value in ends]
    for each in {each for kinds in lists for each in active(kinds)}:
        yield each.kind.name, each.number if each.kind.number else 0.0
