# ruff: noqa: N815 - fields with shape suffixes
"""Images that belong together, as those of one patient or scene: they stay in one split.

Shape suffixes: N = images, G = groups, C = classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from hpsearch.config.data_sources import REGEX
from hpsearch.datasets.images import Array, Labels
from hpsearch.errors import ConfigError, DataError

MAX_PAIRS = 20_000  # of groups that are tried in each other's place, in one round
MAX_ROUNDS = 4
FEW, NUM_DRAWS = 50, 8  # so few groups fit badly together: the best of several draws is taken


def number_groups(names: Sequence[str]) -> Labels:
    """A number for each image's group, from 0."""
    _, numbers = np.unique(np.array(names, dtype=object), return_inverse=True)
    return numbers.astype(np.int64).reshape(-1)


def groups_by_name(expression: str, files: Iterable[Path]) -> list[str]:
    """The group of each file: what `regex:EXPRESSION` finds in its name.

    Raises:
        ConfigError: it is no such expression.
        DataError: it finds nothing in a name.
    """
    if not expression.startswith(REGEX):
        raise ConfigError(
            f"data.group = {expression!r} is not for a folder.\n"
            "Allowed: regex: and an expression for file names with one group in parentheses, as 'regex:^(.+)_'."
        )
    pattern = re.compile(expression.removeprefix(REGEX))
    found = []
    for path in files:
        match = pattern.search(path.name)
        if match is None or match[1] is None:
            raise DataError(
                f"data.group = {expression!r} finds no group in {path.name!r} ({path}).\n"
                "Allowed: an expression that fits the name of every file."
            )
        found.append(match[1])
    return found


def refuse_leaks(groups: Mapping[str, Sequence[str] | None]) -> None:
    """Say no to a group in two splits; `groups` of images, by split.

    Raises:
        DataError: there is one.
    """
    for one, other in combinations(groups, 2):
        if both := set(groups[one] or ()) & set(groups[other] or ()):
            more = f" and {len(both) - 1} more" if len(both) > 1 else ""
            raise DataError(
                f"group {min(both)!r}{more} has images in the {one} and in the {other} split.\n"
                "Allowed: each group of data.group in one split."
            )


def draw_groups(y: Labels, groups: Labels, num: int, seed: int) -> tuple[Array, Array]:
    """Rows of the images that stay and of those that are drawn, both ascending: `num` as near as whole groups allow.

    Stratified as far as they allow, too. Every class keeps an image; of a class in several groups one is drawn if that
    is possible.

    Raises:
        DataError: no group can be drawn.
    """
    rng = np.random.default_rng(seed)
    num_groups = int(groups.max()) + 1
    draws = []
    for _ in range(NUM_DRAWS if num_groups <= FEW else 1):
        order = rng.permutation(num_groups).tolist()
        draws.append(_Draw.of(y, groups, num))
        draws[-1].cover(order)
        draws[-1].fill(order)
        draws[-1].improve(order)
    drawn = min(draws, key=_Draw.cost)
    if not drawn.taken:
        raise DataError(
            f"{len(drawn.groups)} groups of data.group are too few to set some apart: a class would be left without.\n"
            "Allowed: two groups or more of a class."
        )
    taken_N = np.isin(groups, np.array(sorted(drawn.taken)))
    return np.flatnonzero(~taken_N), np.flatnonzero(taken_N)


@dataclass
class _Draw:
    """Groups are taken and put back, to come near to so many images of each class, and in all."""

    groups: list[tuple[Array, Array]]
    """Classes of each group's images, and how many there are of each."""
    stay_C: Array
    """Images that are not taken."""
    lack_C: Array
    """Images that are to be taken yet; below 0 where there are too many."""
    taken_C: Array
    taken: set[int]

    @classmethod
    def of(cls, y: Labels, groups: Labels, num: int) -> _Draw:
        counts_C = np.bincount(y)
        cells, counts = np.unique(np.stack([groups, y]), axis=1, return_counts=True)
        bounds = np.searchsorted(cells[0], np.arange(cells[0][-1] + 2))
        parts = [(cells[1][first:behind], counts[first:behind]) for first, behind in pairwise(bounds.tolist())]
        return cls(parts, counts_C, counts_C * (num / len(y)), np.zeros_like(counts_C), set())

    def cost(self) -> float:
        """Distance from what is wanted, squared, in images: of classes and of all."""
        return float(np.square(self.lack_C).sum() + self.lack_C.sum() ** 2)

    def change(self, group: int) -> float:
        """Of the cost, by taking a group, or putting it back."""
        classes, counts = self.groups[group]
        sign = -1 if group in self.taken else 1
        num = counts.sum()
        own = np.square(counts).sum() - 2 * sign * (self.lack_C[classes] * counts).sum()
        return float(own + num**2 - 2 * sign * self.lack_C.sum() * num)

    def move(self, group: int) -> None:
        """Take it, or put it back."""
        classes, counts = self.groups[group]
        sign = -1 if group in self.taken else 1
        self.stay_C[classes] -= sign * counts
        self.taken_C[classes] += sign * counts
        self.lack_C[classes] -= sign * counts
        self.taken ^= {group}

    def may_move(self, group: int) -> bool:
        """Whether every class keeps an image on the side that the group leaves."""
        classes, counts = self.groups[group]
        left_C = self.taken_C if group in self.taken else self.stay_C
        return bool((left_C[classes] > counts).all())

    def cover(self, order: Sequence[int]) -> None:
        """Take a group of each class that is in several, those in few groups first."""
        having: list[list[int]] = [[] for _ in self.stay_C]
        for group in order:
            for label in self.groups[group][0].tolist():
                having[label].append(group)
        for label in sorted(range(len(having)), key=lambda label: len(having[label])):
            if not self.taken_C[label] and (fit := [group for group in having[label] if self.may_move(group)]):
                self.move(min(fit, key=self.change))

    def fill(self, order: Sequence[int]) -> None:
        """Take what brings it nearer."""
        for group in order:
            if group not in self.taken and self.change(group) < 0 and self.may_move(group):
                self.move(group)

    def improve(self, order: Sequence[int]) -> None:
        """Take, put back and exchange, as long as that brings it nearer."""
        for _ in range(MAX_ROUNDS):
            before = self.cost()
            for group in order:
                if self.change(group) < 0 and self.may_move(group):
                    self.move(group)
            self._exchange(order)
            if self.cost() >= before:
                break

    def _exchange(self, order: Sequence[int]) -> None:
        if len(self.taken) * (len(order) - len(self.taken)) > MAX_PAIRS:
            return
        for one in order:
            for other in order:
                if one in self.taken and other not in self.taken:
                    self._try(one, other)

    def _try(self, one: int, other: int) -> None:
        """One that is taken for one that is not, if that is nearer."""
        before = self.cost()
        if not self.may_move(other):
            return
        self.move(other)
        if self.may_move(one) and self.cost() + self.change(one) < before:
            self.move(one)
        else:
            self.move(other)
