"""Cross-validation: a trial is trained once on each fold, in lockstep, and what counts is the mean over them.

Each fold is a pack of its own, with the same trials and images of its own. All of them go through an epoch before the
next one begins, so that pruners, patience and the best epoch look at means, and a trial that explodes in one fold
leaves all. Which epoch is the best is the same in all folds: that with the best mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from hpsearch.config import StudyConfig
from hpsearch.config.metric import metric_of
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import EngineError
from hpsearch.results import EpochResult, Explosion, FoldedResult, TrialSpec
from hpsearch.training.pack import Pack, PackReport
from hpsearch.training.snapshot import Snapshot
from hpsearch.training.stacked_nets import BEST


class FoldedPack:
    """K trials on each of several folds, as one pack: see `Pack`, whose arguments and methods these are.

    The weights that it gives, and the images that they are measured on, are those of the first fold. Others take no
    places here.

    Args:
        data: with more than one fold.
    """

    refills = False
    num_vacant = 0

    def __init__(
        self,
        config: StudyConfig,
        data: TrainingData,
        specs: Sequence[TrialSpec],
        *,
        snapshots: Mapping[int, Snapshot] | None = None,
        **options: Any,
    ) -> None:
        self.config, self.metric = config, metric_of(config.train.metric)
        self.packs = [
            Pack(
                config,
                fold,
                specs,
                snapshots={number: _of_fold(whole, index) for number, whole in (snapshots or {}).items()},
                judged_elsewhere=True,
                **options,
            )
            for index, fold in enumerate(data.folds)
        ]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the trials that are still in the pack."""
        return self.packs[0].numbers

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.packs[0].epoch

    @property
    def num_epochs(self) -> int:
        """Epochs of each trial."""
        return self.packs[0].num_epochs

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.packs[0].done

    @property
    def engine(self) -> str:
        """The engine in use."""
        return self.packs[0].engine

    def epochs_of(self, number: int) -> int:
        """Epochs that a trial in the pack has done."""
        return self.packs[0].epochs_of(number)

    def run_epoch(self) -> PackReport:
        """Train the next epoch on every fold; results are means over the folds.

        Raises:
            EngineError: the pack is done.
        """
        explosions: dict[int, Explosion] = {}
        by_fold: list[dict[int, EpochResult]] = []
        for pack in self.packs:
            pack.drop([number for number in explosions if number in pack.numbers])
            if not pack.numbers and explosions:
                break
            report = pack.run_epoch()
            by_fold.append({result.number: result for result in report.results})
            explosions |= {explosion.number: explosion for explosion in report.explosions}
        for pack in self.packs:
            pack.drop([number for number in explosions if number in pack.numbers])
        results: list[EpochResult] = [mean_result([fold[n] for fold in by_fold]) for n in self.numbers]
        for pack in self.packs:
            pack.keep_best(results)
        return PackReport(results, list(explosions.values()))

    def drop(self, numbers: Iterable[int]) -> None:
        """Let trials go, as after pruning."""
        leaving = list(numbers)
        for pack in self.packs:
            pack.drop(leaving)

    def admit(self, specs: Sequence[TrialSpec], snapshots: Mapping[int, Snapshot] | None = None) -> None:
        """Nobody takes a place here.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"trials {[spec.number for spec in specs]} do not fit into a pack of folds.")

    def close(self) -> None:
        """No more trials come."""

    def state(self, number: int, which: Literal["best", "last"] = "best") -> dict[str, Tensor]:
        """A copy of a trial's weights on the first fold."""
        return self.packs[0].state(number, which)

    def update_ratios(self, number: int) -> dict[str, float]:
        """Of the first fold."""
        return self.packs[0].update_ratios(number)

    def snapshot(self, number: int) -> Snapshot:
        """A copy of all that a live trial is made of, on every fold."""
        parts = [pack.snapshot(number) for pack in self.packs]
        tensors = {_name(index, name): t for index, part in enumerate(parts) for name, t in part.tensors.items()}
        return Snapshot(parts[0].epoch, tensors, parts[0].best)


TrainedPack: TypeAlias = Pack | FoldedPack


def make_pack(config: StudyConfig, data: TrainingData, specs: Sequence[TrialSpec], **options: Any) -> TrainedPack:
    """The pack of these trials on these images: with a part for each fold, where there are folds."""
    if not data.other_folds:
        return Pack(config, data, specs, **options)
    options.pop("refills", None)
    return FoldedPack(config, data, specs, **options)


def mean_result(results: Sequence[EpochResult]) -> FoldedResult:
    """What one trial looked like after an epoch, over its folds; nan where a fold has no number."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(result, name) for result in results]))

    first = results[0]
    return FoldedResult(
        number=first.number,
        epoch=first.epoch,
        **{name: mean(name) for name in ("cost", "train_loss", "train_acc", "val_loss", "val_acc", "update_ratio")},
        lr=first.lr,
        score=None if first.score is None else mean("score"),
        plain_score=None if first.plain_score is None else mean("plain_score"),
        folds=[result.val_score for result in results],
    )


def _name(fold: int, name: str) -> str:
    """Of a fold's tensor in a snapshot of all: those of the best epoch stay told apart."""
    return f"{BEST}{fold}/{name.removeprefix(BEST)}" if name.startswith(BEST) else f"{fold}/{name}"


def _of_fold(whole: Snapshot, fold: int) -> Snapshot:
    """The part of a snapshot that is a fold's."""
    own: dict[str, Tensor] = {}
    for name, tensor in whole.tensors.items():
        if name.startswith(before := f"{BEST}{fold}/"):
            own[f"{BEST}{name.removeprefix(before)}"] = tensor
        elif name.startswith(before := f"{fold}/"):
            own[name.removeprefix(before)] = tensor
    return Snapshot(whole.epoch, own, whole.best)
