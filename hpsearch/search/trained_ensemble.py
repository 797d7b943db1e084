"""The nets of an ensemble as one: from an image to the weighted mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hpsearch.analysis.kept_ensembles import KeptMember
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.config import RunConfig
from hpsearch.config.losses import Loss
from hpsearch.datasets.images import Array, Progress
from hpsearch.datasets.preprocessing import Preprocessing
from hpsearch.errors import RefusedError, Typed
from hpsearch.search.stored_trials import find_trial
from hpsearch.search.trained_net import TrainedNet, read_net
from hpsearch.storage import Database, find_study


@dataclass(frozen=True, eq=False)
class TrainedEnsemble:
    """Nets of the same images and classes, each with a weight; the weights' sum is 1."""

    nets: Sequence[TrainedNet]
    weights: Sequence[float]

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the first net: all have the same shape, classes and way to decode; each normalizes for itself."""
        return self.nets[0].preprocessing

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.nets[0].num_classes

    @property
    def threshold(self) -> None:
        """None: each net's own is not that of their mean."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What the nets made small, each once."""
        return tuple(dict.fromkeys(loss for net in self.nets for loss in net.losses))

    def classifier(self, device: torch.device, views: str | None = None) -> Callable[[Array], Tensor]:
        """As `TrainedNet.classifier`, which says what it raises."""
        asked = [net.classifier(device, views) for net in self.nets]

        def classify(x_BCHW: Array) -> Tensor:
            said = [weight * ask(x_BCHW) for weight, ask in zip(self.weights, asked, strict=True)]
            return torch.stack(said).sum(0)

        return classify


def load_ensemble(db: Database, study: str, run: RunConfig, progress: Progress | None = None) -> TrainedEnsemble:
    """The ensemble that is kept with a study.

    Args:
        db: the storage.
        study: the first, or only, one of which it was made.
        run: where weights are kept.
        progress: hears (done, total) should images have to be read.

    Raises:
        RefusedError: there is none, or weights of its nets are gone.
        StudyNotFoundError: a study of its nets is gone.
        StorageError, DataError: as `load_net`.
    """
    kept = stage_record(find_study(db, study)).ensemble
    if kept is None:
        raise RefusedError(f"{study!r} has no ensemble.\nMake one with: ", Typed(("hpsearch", "ensemble", study)))
    evidences = {name: read_study(db, name) for name in dict.fromkeys(member.study for member in kept.chosen)}
    nets = [
        read_net(find_trial(evidences[each.study], each.number), _file_of(each, study, run), run, progress)
        for each in kept.chosen
    ]
    return TrainedEnsemble(nets, [each.weight for each in kept.chosen])


def _file_of(member: KeptMember, study: str, run: RunConfig) -> Path:
    places = [member.path, Path(run.artifact_dir, member.path.name)] if member.path is not None else []
    if found := next((place for place in places if place.is_file()), None):
        return found
    where = f"not here: {places[0]}" if places else "not kept"
    raise RefusedError(
        f"the weights of trial {member.number} of {member.study!r}, which are part of the ensemble of {study!r}, are "
        f"{where}.\nMake it again with: ",
        Typed(("hpsearch", "ensemble", study)),
        "; or go where this file is, which may lie in run.artifact_dir.",
    )
