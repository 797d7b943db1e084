"""What data.augment may hold: kinds of augmentation, each with its strength. Read here alone.

A strength is a hyperparameter of its own as well, `data.augment.rotate`: it takes the place of the one in the list, or
is appended. It is structural, since all trials of a pack see the same images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from hpsearch.config.data_sources import FUNCTION, is_user_code
from hpsearch.config.fields import Known
from hpsearch.errors import ConfigError

Strength: TypeAlias = bool | int | float | str

AUGMENT = "augment."
"""Before a kind, as a key of [data]."""

POLICIES = ("cifar10", "imagenet", "svhn")
NUM_BINS = 31  # magnitudes of RandAugment (Cubuk et al. 2019), from 0
OFF = "none"
EXAMPLE = '["hflip", "crop:4"]'


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of augmentation: its name, and what its strength is."""

    name: str
    letter: str = ""
    """What stands for the strength; empty: it has none."""
    example: str = ""
    unit: str = ""
    """Of the strength, or what it is."""
    number: type[int] | type[float] | None = None
    """Of which the strength is one; None: text, or there is none."""
    high: float = math.inf
    off: Strength = 0
    """At which it does nothing."""
    in_pixels: bool = True
    """Whether it works on pixel values; else on images that are normalized already, as they lie on the device."""

    @property
    def form(self) -> str:
        """As it is written: `rotate:DEG`."""
        return f"{self.name}:{self.letter}" if self.letter else self.name

    @property
    def allowed(self) -> str:
        """The form and an example, the bounds, the unit."""
        if not self.letter:
            return self.name
        said = f"{self.form} (as {self.name}:{self.example})"
        return f"{said}, {self.letter} {self.bounds}"

    @property
    def bounds(self) -> str:
        """What the strength may be, in words."""
        if self.number is None:
            return f"{self.unit}; none: without" if self.letter else "true or false"
        assert isinstance(self.off, int | float)
        kind = "a whole number" if self.number is int else "a number"
        ends = "of at least 0" if self.high == math.inf else f"from 0 to {self.high:g}"
        return f"{kind} {ends}: {self.unit}; {self.off:g}: without"

    def strength(self, given: Any) -> Strength:
        """The strength that text or a number stands for.

        Raises:
            ValueError: it is none.
        """
        if not self.letter:
            return _flag(given)
        if self.name == "autoaugment":
            return _one_of(given, (*POLICIES, OFF))
        if self.name == "randaugment":
            return _pair(given)
        number = float("nan" if isinstance(given, bool) else given)
        if self.number is int and number != int(number):
            raise ValueError("no whole number")
        if not 0 <= number <= self.high or math.isinf(number):
            raise ValueError("out of range")
        return int(number) if self.number is int else number


def _flag(given: Any) -> bool:
    if given not in (True, False, "true", "false", ""):
        raise ValueError("has no strength")
    return given in (True, "true", "")


def _one_of(given: Any, names: Sequence[str]) -> str:
    if given not in names:
        raise ValueError("not one of them")
    return str(given)


def _pair(given: Any) -> str:
    """`N,M` of RandAugment."""
    if given == OFF:
        return OFF
    if not (isinstance(given, str) and (match := re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", given))):
        raise ValueError("no pair")
    num, magnitude = map(int, match.groups())
    if num < 1 or magnitude >= NUM_BINS:
        raise ValueError("out of range")
    return f"{num},{magnitude}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("hflip", in_pixels=False, off=False),
        Kind("vflip", in_pixels=False, off=False),
        Kind("crop", "N", "4", "pixels of a shift, each way", int, in_pixels=False),
        Kind("scale", "L", "0.5", "least share of the area that is kept", float, high=1, off=1.0),
        Kind("translate", "S", "0.1", "share of a side, each way", float, high=1),
        Kind("rotate", "DEG", "10", "degrees, each way", float, high=180),
        Kind("brightness", "B", "0.4", "factors from 1 - B to 1 + B", float, high=10),
        Kind("contrast", "C", "0.4", "factors from 1 - C to 1 + C", float, high=10),
        Kind("saturation", "S", "0.4", "factors from 1 - S to 1 + S", float, high=10),
        Kind("hue", "H", "0.1", "turns of the colour wheel, each way", float, high=0.5),
        Kind("pca", "STD", "0.1", "standard deviations of the training images' colours", float, high=10),
        Kind("noise", "STD", "0.05", "standard deviation, as a share of white", float, high=10),
        Kind("elastic", "ALPHA", "1", "standard deviation of the shifts in pixels", float, high=1000),
        Kind("cutout", "N", "8", "pixels of a side", int),
        Kind("gridmask", "N", "4", "pixels of a side", int),
        Kind("mixup", "ALPHA", "0.2", "of the Beta distribution of the shares", float, high=1000),
        Kind("cutmix", "ALPHA", "1", "of the Beta distribution of the shares", float, high=1000),
        Kind("autoaugment", "POLICY", "cifar10", f"one of {', '.join(POLICIES)}", off=OFF),
        Kind("randaugment", "N,M", "2,9", f"operations, and their magnitude from 0 to {NUM_BINS - 1}", off=OFF),
        Kind("trivialaugment", off=False),
    )
}
"""In the order in which strengths that are searched alone are appended."""

MIXES = ("mixup", "cutmix")
"""Kinds that change labels, too."""

AUGMENTATIONS = Known(
    tuple(kind.name for kind in KINDS.values() if not kind.letter),
    (*(kind.form for kind in KINDS.values() if kind.letter), FUNCTION),
)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A kind with its strength; `str()` of it is its one spelling."""

    kind: Kind
    strength: Strength

    @property
    def is_on(self) -> bool:
        """Whether it does anything."""
        return self.strength != self.kind.off

    @property
    def number(self) -> float:
        """The strength of a kind that has a number."""
        assert isinstance(self.strength, int | float)
        return float(self.strength)

    @property
    def whole(self) -> int:
        """That of a kind that has a whole number."""
        return int(self.number)

    def __str__(self) -> str:
        if not self.kind.letter:
            return self.kind.name
        return f"{self.kind.name}:{str(self.strength).removesuffix('.0')}"  # all digits, or a trial would be another


def is_own(text: str) -> bool:
    """Whether an element of data.augment names a function of the user's: the names of kinds are no modules."""
    return text.partition(":")[0] not in KINDS and is_user_code(text)


@lru_cache(maxsize=1024)
def parse_augmentation(text: str) -> Augmentation:
    """What an element of data.augment says.

    Raises:
        ValueError: it says nothing that is there; the message is what is allowed.
    """
    name, sign, amount = text.partition(":")
    if is_own(text):
        return Augmentation(Kind(text), True)
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"allowed: a list of {AUGMENTATIONS}: {EXAMPLE}")
    try:
        if bool(sign) != bool(kind.letter):
            raise ValueError
        return Augmentation(kind, kind.strength(amount))
    except ValueError:
        raise ValueError(f"allowed: {kind.allowed}") from None


def active(kinds: Iterable[str]) -> list[Augmentation]:
    """Those of a list that do anything, in its order."""
    return [each for each in map(parse_augmentation, kinds) if each.is_on]


def one_mix(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The list as it is.

    Raises:
        ValueError: labels would be mixed twice.
    """
    if len([each for each in kinds if parse_augmentation(each).kind.name in MIXES]) > 1:
        raise ValueError(f"allowed: one of {' and '.join(MIXES)}, since each mixes the labels of two images")
    return kinds


def with_strengths(kinds: Sequence[str], strengths: Mapping[str, Any]) -> tuple[str, ...]:
    """The list with these strengths, by kind: in their old places, or at its end in the order of `KINDS`.

    Raises:
        ConfigError: a kind is not there, or its strength not allowed.
    """
    found = list(kinds)
    for name in sorted(strengths, key=lambda each: [*KINDS, each].index(each)):
        given = _given(name, strengths[name])
        place = next((i for i, each in enumerate(found) if each.partition(":")[0] == name), None)
        if not given.kind.letter and not given.is_on:  # there is no way to write that it is off
            found = [each for each in found if each != name]
        elif place is None:
            found.append(str(given))
        else:
            found[place] = str(given)
    return tuple(found)


def _given(name: str, strength: Any) -> Augmentation:
    if (kind := KINDS.get(name)) is None:
        raise ConfigError(f"data.augment.{name} is not a kind of augmentation.\nAllowed: {', '.join(KINDS)}.")
    try:
        return Augmentation(kind, kind.strength(strength))
    except (ValueError, TypeError):
        said = f"{kind.letter}, {kind.bounds}" if kind.letter else kind.bounds
        raise ConfigError(f"data.augment.{name} = {strength!r} is not allowed.\nAllowed: {said}.") from None


def strength_of(kinds: Sequence[str], name: str) -> Strength:
    """That of a kind in the list; where it is not there, the one at which it does nothing."""
    found = (each.strength for each in map(parse_augmentation, kinds) if each.kind.name == name)
    return next(found, KINDS[name].off)


def limits(name: str) -> tuple[float | None, float | None]:
    """Between which the strength of a kind lies; None where there is no end."""
    kind = KINDS[name]
    if kind.number is None:
        return None, None
    return 0.0, None if kind.high == math.inf else float(kind.high)
