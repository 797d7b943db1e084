"""What is kept with a study of ensembles of its trials: of which nets the last one is, and nets trained for any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpsearch.wording import value_text


@dataclass(frozen=True)
class KeptTraining:
    """One more training of a trial, whose weights are kept."""

    number: int
    """Of the trial."""
    seed: int
    bagged: bool
    """Whether its training images were drawn with replacement."""
    epoch: int
    """Of the weights, its best one."""
    path: Path
    snapshots: Mapping[int, Path] | None = None
    """Weights at the ends of the cycles of its rate, by epoch; None where nobody has asked for them."""

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        stored = {**asdict(self), "path": str(self.path)}
        del stored["snapshots"]
        if self.snapshots is not None:
            stored["snapshots"] = [[epoch, str(path)] for epoch, path in self.snapshots.items()]
        return stored


@dataclass(frozen=True)
class KeptMember:
    """A net that was considered for an ensemble."""

    study: str
    number: int
    """Of the trial."""
    seed: int
    bagged: bool
    epoch: int | None
    """Of the weights; None where an older version kept those after the last one."""
    value: float
    """Of the net alone, on the validation images."""
    weight: float
    """In the average; 0 for one that was not taken."""
    path: Path | None
    """None where its weights could not be written."""

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        return {**asdict(self), "path": str(self.path) if self.path is not None else None}


@dataclass(frozen=True)
class KeptEnsemble:
    """An ensemble: its nets, the best of them first, and what it gained."""

    members: tuple[KeptMember, ...]
    said: Mapping[str, Any]
    """All else as JSON, see `search.ensemble.Ensemble.as_dict`."""

    @property
    def chosen(self) -> Sequence[KeptMember]:
        """Those that are averaged."""
        return [member for member in self.members if member.weight > 0]


def members_table(members: Sequence[KeptMember], column: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names and a row of text for each, with the seed and the epoch only where they tell nets of a trial apart.

    `column` is that of the values.
    """
    trials = len({(each.study, each.number) for each in members})
    has_seeds = len({(each.study, each.number, each.seed) for each in members}) > trials
    has_epochs = len({(each.study, each.number, each.seed) for each in members}) < len(members)
    rows = [
        (
            each.study,
            str(each.number),
            *([str(each.seed)] * has_seeds),
            *([str(each.epoch or "-")] * has_epochs),
            value_text(each.value),
            f"{each.weight:.3f}",
        )
        for each in members
    ]
    return ("study", "trial", *(["seed"] * has_seeds), *(["epoch"] * has_epochs), column, "weight"), rows


def kept_training(stored: Any) -> KeptTraining | None:
    """From what `as_dict` wrote."""
    match stored:
        case {"number": int(number), "seed": int(seed), "bagged": bool(bagged), "epoch": int(epoch), "path": str(path)}:
            return KeptTraining(number, seed, bagged, epoch, Path(path), _snapshots(stored.get("snapshots")))
    return None


def _snapshots(stored: Any) -> Mapping[int, Path] | None:
    if not isinstance(stored, list):
        return None
    pairs = [each for each in stored if isinstance(each, list) and [*map(type, each)] == [int, str]]
    return {epoch: Path(path) for epoch, path in pairs} if len(pairs) == len(stored) else None


def kept_ensemble(stored: Any) -> KeptEnsemble | None:
    """From JSON with `members`; None unless all of them can be read and some are chosen."""
    if not isinstance(stored, dict) or not isinstance(stored.get("members"), list):
        return None
    members = [member for row in stored["members"] if (member := _member(row)) is not None]
    said = {key: value for key, value in stored.items() if key != "members"}
    found = KeptEnsemble(tuple(members), said)
    return found if found.chosen and len(members) == len(stored["members"]) else None


def _member(stored: Any) -> KeptMember | None:
    match stored:
        case {
            "study": str(study),
            "number": int(number),
            "seed": int(seed),
            "bagged": bool(bagged),
            "epoch": int() | None as epoch,
            "value": int() | float() as value,
            "weight": int() | float() as weight,
            "path": str() | None as path,
        }:
            where = Path(path) if path is not None else None
            return KeptMember(study, number, seed, bagged, epoch, float(value), float(weight), where)
    return None
