"""How often test images have been used: one count for all that says it.

Whatever the searches are called, and whether they descend from each other: all that was chosen after a look at the same
test images was chosen by them. So it is the images whose uses are counted, over all studies of a storage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpsearch.analysis.records import stage_record
from hpsearch.storage import StudyRow
from hpsearch.wording import count_text

TEST_IMAGES = "images"  # in a use of the test set: their fingerprint


def family_of(study: StudyRow, studies: Iterable[StudyRow]) -> list[StudyRow]:
    """Those of all `studies` that descend from the same first stage, that one first. Pure.

    They were chosen by looking at each other.
    """
    rows = {row.name: row for row in (study, *studies)}

    def root(row: StudyRow) -> str:
        seen = {row.name}
        while (source := stage_record(row).source) in rows and source not in seen:
            seen.add(source)
            if stage_record(rows[source]).kind == "check":  # it chose nothing but a range
                break
            row = rows[source]
        return row.name

    first = root(study)
    return [rows[first], *(row for other, row in rows.items() if other != first and root(row) == first)]


@dataclass(frozen=True)
class TestImageUses:
    """The uses of the test images of one or several studies."""

    __test__ = False  # nothing for pytest to collect

    num: int = 0
    """By all searches of the storage."""
    by_stage: Mapping[str, int] = field(default_factory=dict)
    """Those that each of the studies asked for keeps; one of an ensemble of several is kept with each search."""
    by_family: Mapping[str, int] = field(default_factory=dict)
    """By all that descends from a first stage."""

    @property
    def with_next(self) -> TestImageUses:
        """The same after one more use by all of these studies."""
        stages, families = ({name: number + 1 for name, number in by.items()} for by in (self.by_stage, self.by_family))
        return TestImageUses(self.num + 1, stages, families)

    @property
    def use_text(self) -> str:
        """`use 3 of these test images (use 1 by fine, use 2 by all that descends from coarse)`: of the last one."""
        parts = [f"use {number} by {name}" for name, number in self.by_stage.items()]
        parts += [f"use {number} by all that descends from {name}" for name, number in self.by_family.items()]
        return f"use {self.num} of these test images ({', '.join(parts)})"

    @property
    def count_text(self) -> str:
        """`these test images have been used 3 times by the searches here, 1 time by fine`."""
        parts = [f"{count_text(number, 'time')} by {name}" for name, number in self.by_stage.items()]
        return ", ".join(
            [f"these test images have been used {count_text(self.num, 'time')} by the searches here", *parts]
        )


def count_uses(of: Sequence[StudyRow], studies: Iterable[StudyRow], test_images: str | None = None) -> TestImageUses:
    """Of the test images of the studies `of`, which are the same, among all `studies`. Pure; see `uses_of_images`."""
    rows = list(studies)
    families = {family[0].name: family for family in (family_of(study, rows) for study in of)}
    found = {_key(use): None for study in of for use in uses_of_images(study, rows, test_images)}
    return TestImageUses(
        len(found),
        {study.name: len(stage_record(study).tests) for study in of},
        {
            first: len({_key(use) for row in family for use in stage_record(row).tests})
            for first, family in families.items()
        },
    )


def uses_of_images(
    study: StudyRow, studies: Iterable[StudyRow], test_images: str | None = None
) -> list[Mapping[str, Any]]:
    """The uses by all `studies` of the test set of one of them, the first one first. Pure.

    A use counts where its test images were these, or those of another use that counts; where an older version did not
    keep which they were, if the images that were trained on are the same. That of an ensemble of several searches is
    kept with each of them, and counts once.

    Args:
        study: whose test set it is.
        studies: all there are.
        test_images: their fingerprint, where they have been read.
    """
    rows = list(studies)
    related = {row.name for row in family_of(study, rows)}
    if (trained_on := stage_record(study).images.fingerprint) is not None:
        related |= {row.name for row in rows if stage_record(row).images.fingerprint == trained_on}
    uses = [(row.name in related, use) for row in rows for use in stage_record(row).tests]
    known = {use.get(TEST_IMAGES) for counts, use in uses if counts} | {test_images}
    known.discard(None)
    counted = {_key(use): use for counts, use in uses if counts or use.get(TEST_IMAGES) in known}
    return sorted(counted.values(), key=lambda use: str(use.get("time", "")))


def place_of_use(use: Mapping[str, Any], uses: Sequence[Mapping[str, Any]]) -> int | None:
    """Which of `uses` it is, from 1; None for one that is not among them."""
    return next((place for place, other in enumerate(uses, start=1) if _key(other) == _key(use)), None)


def _key(use: Mapping[str, Any]) -> str:
    return json.dumps(use, sort_keys=True, default=str)
