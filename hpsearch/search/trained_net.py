"""A trial's net as it was after its best epoch, with all that is needed to use it: neither images nor training."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import RunConfig
from hpsearch.config.losses import CROSS_ENTROPY, Loss
from hpsearch.config.metric import Metric
from hpsearch.datasets.images import Array, Progress
from hpsearch.datasets.preprocessing import Preprocessing
from hpsearch.errors import DataError, RefusedError, Typed
from hpsearch.models import build
from hpsearch.search.stored_trials import StoredTrial, find_trial, how_it_stands, images_of
from hpsearch.training.precision import PRECISIONS
from hpsearch.training.threshold import HALF, Threshold
from hpsearch.training.views import log_probabilities
from hpsearch.wording import count_text
from hpsearch.worker.best_weights import layer_update_ratios, read_threshold, read_weights, silent_units


@dataclass(frozen=True, eq=False)
class TrainedNet:
    """Weights and buffers, what net they are of, and what it takes in and means by what it puts out."""

    stored: StoredTrial
    state: Mapping[str, Tensor]
    preprocessing: Preprocessing
    threshold: Threshold | None = None
    """From which probability on an image counts as the second of two classes; None: the likeliest class counts."""
    silent: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By activation layer, the share of a sample of the training images for which each unit is 0; may be empty."""
    updates: Mapping[str, float] = field(default_factory=dict)
    """Of each layer, |update| / |weights| in the last step of the training; may be empty."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers it was trained in."""
        return PRECISIONS[self.stored.config.train.precision]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.preprocessing.class_names)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What it made small."""
        return (self.stored.config.train.loss,)

    def module(self, device: torch.device) -> nn.Module:
        """The net in evaluation mode, on a device.

        Raises:
            RefusedError: it is of the user's code, which nobody has vouched for; see `config.usercode`.
            ConfigError: that code is not there, or gives another net now.
        """
        net = build(self.stored.config.model, self.preprocessing.shape, self.num_classes)
        try:
            net.load_state_dict(dict(self.state))
        except RuntimeError as error:
            name = self.stored.config.model.name
            raise RefusedError(
                f"the weights of trial {self.stored.trial.number} do not fit the net that {name} makes now: "
                f"{' '.join(str(error).split())}\nBring back the code that it was trained with."
            ) from None
        return net.to(device, self.dtype).eval()

    def classifier(self, device: torch.device, views: str | None = None) -> Callable[[Array], Tensor]:
        """From images as they were stored, B,C,H,W, to the probabilities of the classes, B,C in float64 on the CPU.

        With `views` they are averaged over those, see `training.views`.

        Raises:
            RefusedError, ConfigError: as `module`.
        """
        module, like = self.module(device), torch.empty(0, dtype=self.dtype, device=device)

        @torch.inference_mode()
        def classify(x_BCHW: Array) -> Tensor:
            ready_BCHW = self.preprocessing.normalize(x_BCHW, like)
            logits_BC: Tensor = module(ready_BCHW) if views is None else log_probabilities(module, ready_BCHW, views)
            return logits_BC.cpu().double().softmax(1)

        return classify


def threshold_text(found: Threshold | None, class_names: Sequence[str]) -> str:
    """What the threshold is and gives, in a sentence; empty where there is none, or the likelier class counts."""
    if found is None or found.value == HALF:
        return ""
    name, metric = class_names[1], Metric(found.metric)
    return (
        f"{name} from probability {found.value:.4g} on, found on validation images: {metric.label} "
        f"{metric.text(found.score)}, {metric.text(found.score_at_half)} at 0.5"
    )


def uncalibrated_text(losses: Sequence[Loss]) -> str:
    """Of which losses the scores are no logarithms of probabilities, in a sentence; empty where there are none."""
    others = [loss for loss in losses if loss != CROSS_ENTROPY]
    if not others:
        return ""
    return (
        f"trained with train.loss = {' and '.join(others)}: the probabilities are softmax of its scores, which ranks "
        "the classes of an image and does not say how often it is right"
    )


def load_net(
    evidence: StudyTrials, run: RunConfig, number: int | None = None, progress: Progress | None = None
) -> TrainedNet:
    """The net of the best trial of a stage, or of another one whose weights are kept.

    Args:
        evidence: the stage.
        run: where weights are kept and, for those that an older version kept, where images are cached.
        number: of the trial.
        progress: hears (done, total) should images have to be read.

    Raises:
        ConfigError: the study has no trial of that number.
        RefusedError: it has no finished trial, is no stage of ours, or no weights of the trial are kept.
        StorageError: the file with the weights cannot be read.
        DataError: an older version kept no more than the weights, and the training images are gone.
    """
    stored = find_trial(evidence, best_or_refuse(evidence).number if number is None else number)
    return read_net(stored, weights_file(stored, run), run, progress)


def read_net(stored: StoredTrial, path: Path, run: RunConfig, progress: Progress | None = None) -> TrainedNet:
    """The net of a trial with the weights of a file.

    Raises:
        StorageError: the file cannot be read.
        DataError: as `load_net`.
    """
    state, preprocessing = read_weights(path)
    if preprocessing is None:
        preprocessing = _from_the_images(stored, run, progress)
    silent, updates = silent_units(path), layer_update_ratios(path)
    return TrainedNet(stored, state, preprocessing, read_threshold(path), silent, updates)


def weights_of(stored: StoredTrial, run: RunConfig) -> Path | None:
    """Where the weights of a trial are: where they were put, or below run.artifact_dir, should that have moved.

    None where they are not kept, or not on this machine.
    """
    return next((place for place in _places(stored, run) if place.is_file()), None)


def _places(stored: StoredTrial, run: RunConfig) -> list[Path]:
    best, number = stage_record(stored.study).weights, stored.trial.number
    kept = [best.path] if best is not None and best.number == number else []
    kept += [path] if (path := trial_record(stored.trial).weights) is not None else []
    return [place for path in kept for place in (path, Path(run.artifact_dir, path.name))]


def weights_file(stored: StoredTrial, run: RunConfig) -> Path:
    """As `weights_of`.

    Raises:
        RefusedError: they are not kept, or not on this machine.
    """
    if (found := weights_of(stored, run)) is not None:
        return found
    best, number = stage_record(stored.study).weights, stored.trial.number
    whose = f"trial {number} of {stored.study.name!r}"
    if places := _places(stored, run):
        raise RefusedError(
            f"the weights of {whose} are not here: {places[0]}.\n"
            "Allowed: a machine that has this file; it may lie in run.artifact_dir."
        )
    there = f"trial {best.number}, whose weights are; or " if best is not None else ""
    if stored.trial.state != "COMPLETE" or trial_record(stored.trial).halved:
        raise _never_kept(stored, there)
    raise RefusedError(
        f"the weights of {whose} are not kept.\n"
        f"Allowed: {there}a search with --keep best (its best trial) or --keep all (all that complete)."
    )


def _never_kept(stored: StoredTrial, there: str) -> RefusedError:
    """Of a trial that did not come to its last epoch. COMPLETE, it is the best of those that rungs stopped."""
    trial, study = stored.trial, stored.study.name
    done = count_text(max(trial.intermediate, default=0), "epoch")
    why = f"it ended after {done}, not its last one"
    if trial.state == "RUNNING":
        why = f"it {how_it_stands(trial)}, after {done}"
    said = f"the weights of trial {trial.number} of {study!r} are not kept: {why}.\n"
    if trial.state != "COMPLETE":
        return RefusedError(
            f"{said}Allowed: {there}a trial that came to its last epoch, after a search with --keep all."
        )
    file, epochs = f"{study}-best.toml", str(max(trial.intermediate, default=1))
    best = Typed(("hpsearch", "best", study, "-f", "toml"))
    train = Typed(("hpsearch", "train", "-c", file, "--epochs", epochs))
    return RefusedError(f"{said}Train it: ", best, f" > {shlex.quote(file)} && ", train)


def _from_the_images(stored: StoredTrial, run: RunConfig, progress: Progress | None) -> Preprocessing:
    try:
        return Preprocessing.of(images_of(stored, run, progress))
    except DataError as error:
        raise DataError(
            f"the weights of {stored.study.name!r} were kept by an older version of hpsearch, without what was done "
            f"to the images, so the training images are needed: {error}"
        ) from None
