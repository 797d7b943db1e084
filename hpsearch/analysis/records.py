"""What hpsearch keeps with a study, as typed values.

Any program may have made it: what is missing, or of another type than ours, counts as not kept. The keys are in
`attributes`; they are written by `stages.opening`, by its plan, and by whoever adds to it later.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from hpsearch.analysis import attributes
from hpsearch.analysis.chance import KeptImages
from hpsearch.analysis.kept_ensembles import KeptEnsemble, KeptTraining, kept_ensemble, kept_training
from hpsearch.analysis.repeats import Repeats, stored_repeats
from hpsearch.analysis.stored_values import list_in, measures_in, number_in, of_type
from hpsearch.analysis.together import Together, kept_together
from hpsearch.config import Range
from hpsearch.config.metric import ACCURACY, FOREIGN, Metric, known_metric
from hpsearch.config.schema.objective import GIVEN
from hpsearch.errors import StorageError
from hpsearch.results import Direction
from hpsearch.space import range_from_json, range_to_json
from hpsearch.space.scale import plain_range
from hpsearch.storage import StudyRow

StageKind = Literal["check", "coarse", "fine", "compare", "train"]
KINDS: tuple[StageKind, ...] = get_args(StageKind)


@dataclass(frozen=True)
class KeptRange:
    """A range of a stage: [low, high] or the values of a choice, those it came from if it did, and why."""

    param: str
    old: list[Any] | None
    new: list[Any]
    reason: str


@dataclass(frozen=True)
class ComparedSearch:
    """What a search keeps that is one of many compared."""

    name: str
    """Of the comparison."""
    sampler: str
    repeat: int
    repeats: int
    trials_asked: int

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        return asdict(self)


@dataclass(frozen=True)
class KeptWeights:
    """Where the weights of the best trial are, of which epoch, and the value that they gave."""

    path: Path
    number: int
    value: float
    epoch: int | None = None
    """None where an older version kept those after the last one."""
    measures: Mapping[str, float] | None = None
    """All that we measure, on the validation images, by name; None where an older version kept them."""

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class Fitted:
    """The trials and epochs that were asked for, of a stage that has been made to fit a time, and the time it had."""

    trials: int
    epochs: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class StageRecord:
    """What hpsearch keeps with a study of its own."""

    kind: StageKind | None = None
    """None for a study of another program."""
    config: Mapping[str, Any] | None = None
    """The resolved study file."""
    identity: Mapping[str, Any] | None = None
    fingerprint: str = ""
    """Of the identity."""
    source: str | None = None
    """The study whose trials gave the ranges."""
    chosen_sampler: Mapping[str, str] | None = None
    """The sampler and the reason, where it was left to hpsearch."""
    together: Together | None = None
    """What a Gaussian process saw to count together in the trials of a stage before, where it looked."""
    ranges: tuple[KeptRange, ...] = ()
    continued: tuple[Mapping[str, Any], ...] = ()
    """Trials of the source that go on here: each with its origin and its hyperparameters."""
    images: KeptImages = field(default_factory=KeptImages)
    compared: ComparedSearch | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of packages, and the hashes of the user's code."""
    weights: KeptWeights | None = None
    checks: Mapping[str, Any] | None = None
    learning: Mapping[str, Any] | None = None
    rounding: str | None = None
    """Of products and convolutions, as of the last start."""
    """What an adaptive sampler knew when it proposed, see `stages.sampler_knowledge`."""
    fitted: Fitted | None = None
    takes: frozenset[str] | None = None
    """What an objective is given by name; None where it was not noted, or where the trials train nets."""
    called: Mapping[str, Range] = field(default_factory=dict)
    """By parameter, the range that an Optuna objective named first."""
    stop_asked_at: float | None = None
    """On the database's clock."""
    repeats: Repeats | None = None
    """The best trials, trained again with other seeds."""
    tests: tuple[Mapping[str, Any], ...] = ()
    """Each use of the test set."""
    trainings: tuple[KeptTraining, ...] = ()
    """Of its trials, again, with weights that are kept for ensembles."""
    ensemble: KeptEnsemble | None = None
    """The last one that was made of its trials, first or alone."""

    @property
    def is_training(self) -> bool:
        """Whether its trials have given values and differ by their seed alone."""
        return self.kind == attributes.TRAIN

    @property
    def trained_here(self) -> bool:
        """Whether hpsearch trained it, on images that it knows."""
        return self.images.num_classes is not None

    def metric(self, direction: Direction) -> Metric:
        """What the value of a trial is, of a study of this direction. A check looks at accuracy, whatever counts."""
        if self.kind is None:
            return Metric(FOREIGN, direction)
        if (name := self.config_value("objective", "metric")) is not None:
            return Metric(str(name), direction, is_own=True)
        loss = self.config_value("train", "loss")
        if self.kind == "check":
            return known_metric(None, ACCURACY.direction, loss)
        return known_metric(self.config_value("train", "metric"), direction, loss)

    @property
    def value_name(self) -> str:
        """What the value of a trial is called: val_acc in our own studies, unless train.metric is another one."""
        return self.metric("maximize").column

    @property
    def num_epochs(self) -> int | None:
        """Of each trial; None where it has none, as one of an objective that is not told a number."""
        return of_type(int, self.config_value(self.kind or "", "epochs")) if self.has_epochs else None

    @property
    def has_epochs(self) -> bool:
        """Whether a trial is told how many epochs it has."""
        return self.takes is None or "epochs" in self.takes

    @property
    def step_name(self) -> str:
        """What the places of a trial's intermediate values are counted in: `epoch`, or `step` where nobody knows."""
        return "epoch" if self.kind is not None and self.has_epochs else "step"

    @property
    def reasons(self) -> dict[str, str]:
        """Why each range is what it is, by parameter."""
        return {row.param: row.reason for row in self.ranges}

    def config_value(self, *path: str) -> Any:
        """A key of the config, as `config_value("coarse", "epochs")`; None where there is none."""
        value: Any = self.config
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def stage_record(study: StudyRow) -> StageRecord:
    """What is kept with a study."""
    kept = study.attrs
    called = called_ranges(of_type(dict, kept.get(attributes.CALLED)) or {})
    provenance = of_type(dict, kept.get(attributes.PROVENANCE)) or {}
    versions = of_type(dict, kept.get(attributes.VERSIONS)) or {}
    return StageRecord(
        kind=next((kind for kind in KINDS if kind == kept.get(attributes.STAGE)), None),
        config=of_type(dict, kept.get(attributes.CONFIG)),
        identity=of_type(dict, kept.get(attributes.IDENTITY)),
        fingerprint=of_type(str, kept.get(attributes.FINGERPRINT)) or "",
        source=of_type(str, provenance.get("from")),
        chosen_sampler=of_type(dict, provenance.get("sampler")),
        together=kept_together(provenance.get("together")),
        ranges=_with_called([r for row in list_in(provenance.get("ranges")) if (r := _range(row)) is not None], called),
        continued=tuple(each for each in list_in(provenance.get("continued")) if isinstance(each, dict)),
        images=_images(of_type(dict, kept.get(attributes.DATASET)) or {}),
        compared=_compared(kept.get(attributes.COMPARISON)),
        versions={name: version for name, version in versions.items() if isinstance(version, str)},
        weights=kept_weights(kept.get(attributes.PORTRAIT)),
        checks=of_type(dict, kept.get(attributes.CHECKS)),
        learning=of_type(dict, kept.get(attributes.LEARNING)),
        rounding=of_type(str, kept.get(attributes.ROUNDING)),
        fitted=_fitted(kept.get(attributes.FITTED)),
        takes=_given(kept.get(attributes.TAKES)),
        called=called,
        stop_asked_at=number_in(kept.get(attributes.STOP)),
        repeats=stored_repeats(kept.get(attributes.REPEATS)),
        tests=tuple(use for use in list_in(kept.get(attributes.TESTS)) if isinstance(use, dict)),
        trainings=tuple(
            training for row in list_in(kept.get(attributes.TRAININGS)) if (training := kept_training(row)) is not None
        ),
        ensemble=kept_ensemble(kept.get(attributes.ENSEMBLE)),
    )


def called_ranges(kept: Mapping[str, Any]) -> dict[str, Range]:
    """What `called_as_plain` made of ranges; what is none of that is left out."""
    found: dict[str, Range] = {}
    for name, distribution in kept.items():
        with contextlib.suppress(StorageError):
            found[name] = range_from_json(json.dumps(distribution))
    return found


def called_as_plain(ranges: Mapping[str, Range]) -> dict[str, Any]:
    """Ranges as Optuna's distributions, as kept with the study."""
    return {name: json.loads(range_to_json(range_)) for name, range_ in ranges.items()}


def kept_weights(stored: Any) -> KeptWeights | None:
    """From what `as_dict` wrote."""
    match stored:
        case {"path": str(path), "number": int(number), "value": int() | float() as value}:
            return KeptWeights(
                Path(path), number, value, of_type(int, stored.get("epoch")), measures_in(stored.get("measures"))
            )
    return None


def _range(stored: Any) -> KeptRange | None:
    match stored:
        case {"param": str(param), "new": list(new), "reason": str(reason)}:
            return KeptRange(param, of_type(list, stored.get("old")), new, reason)
    return None


def _with_called(given: list[KeptRange], called: Mapping[str, Range]) -> tuple[KeptRange, ...]:
    """Ranges that were given, and those that the objective named."""
    known = {row.param for row in given}
    others = (KeptRange(n, None, plain_range(r), "of the objective") for n, r in called.items() if n not in known)
    return (*given, *others)


def _images(stored: dict[str, Any]) -> KeptImages:
    shape: tuple[int, int, int] | None = None
    match stored.get("shape"):
        case [int(channels), int(height), int(width)]:
            shape = channels, height, width
    return KeptImages(
        num_classes=of_type(int, stored.get("classes")),
        num_val=of_type(int, stored.get("val")),
        num_train=of_type(int, stored.get("train")),
        largest_share=number_in(stored.get("largest")),
        shape=shape,
        fingerprint=of_type(str, stored.get("fingerprint")),
        has_test=stored["test"] if isinstance(stored.get("test"), bool) else None,
    )


def _compared(stored: Any) -> ComparedSearch | None:
    match stored:
        case {
            "name": str(name),
            "sampler": str(sampler),
            "repeat": int(repeat),
            "repeats": int(repeats),
            "trials_asked": int(trials_asked),
        }:
            return ComparedSearch(name, sampler, repeat, repeats, trials_asked)
    return None


def _fitted(stored: Any) -> Fitted | None:
    match stored:
        case {"trials": int(trials), "epochs": int(epochs), "seconds": int() | float() as seconds}:
            return Fitted(trials, epochs, seconds)
    return None


def _given(stored: Any) -> frozenset[str] | None:
    known = isinstance(stored, list) and all(isinstance(name, str) and name in GIVEN for name in stored)
    return frozenset(stored) if known else None
