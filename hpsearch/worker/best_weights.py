"""The best trial of a stage, kept: the weights of its best epoch, its first-layer filters, its silent units, and what
was done to its images, so that it can be used without them.

A safetensors file under a generated name, which is an artifact of the study in Optuna's sense; the study's attributes
say where, of which epoch, and with what value. So does the file's own metadata: `trial`, `epoch`, `val_acc`, and
`metric` and `value` where train.metric is not the accuracy. Reading one imports no torch.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hpsearch.analysis import attributes
from hpsearch.analysis.records import KeptWeights, kept_weights, stage_record
from hpsearch.analysis.study_trials import direction_of
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config.metric import ACCURACY
from hpsearch.errors import DataError, StorageError
from hpsearch.logs import get_logger
from hpsearch.results import goodness
from hpsearch.storage import Database, StudyRow, TrialRow
from hpsearch.storage.system_attributes import AttrChange, change_attrs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from hpsearch.config import StudyConfig
    from hpsearch.datasets.device import TrainingData
    from hpsearch.datasets.preprocessing import Preprocessing
    from hpsearch.results import EpochResult
    from hpsearch.training.threshold import Threshold

WEIGHTS, FILTERS, SPARSITY = "weights/", "portrait/filters", "portrait/sparsity/"  # names in the file
UPDATES = "update_ratios"  # in the file's metadata
ARTIFACT = "artifacts:"  # Optuna's prefix of what it keeps of an artifact

Seen = TypeVar("Seen")

log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Portrait:
    """What the best trial looks like inside.

    `filters` are first-layer weights (units, C, H, W), None for nets that do not begin at pixels; `sparsity` is,
    per activation layer, the share of training images for which each unit was exactly 0.
    """

    number: int
    value: float
    path: Path
    filters: np.ndarray[Any, Any] | None
    sparsity: dict[str, np.ndarray[Any, Any]]
    epoch: int | None = None
    """Of the weights; None where an older version kept those after the last one."""


def write_portrait(
    folder: Path,
    state: Mapping[str, Tensor],
    config: StudyConfig,
    data: TrainingData,
    best: EpochResult,
    threshold: Threshold | None = None,
    updates: Mapping[str, float] | None = None,
) -> Path | None:
    """Write a trial, whose `state` is that after its `best` epoch, to a file under a new name, which is returned.

    `updates` are the update ratios of its layers, as `Pack.update_ratios` gives them.

    A full disk or an unwritable folder costs the portrait, not the search: it is logged, and None comes back.
    """
    from safetensors.torch import save_file

    from hpsearch.datasets.preprocessing import Preprocessing
    from hpsearch.training.sparsity import first_layer, unit_sparsity

    tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in state.items()}
    silent = {}
    if data.body is None:  # of features, a net that begins at pixels says nothing
        silent = unit_sparsity(config.model, state, data.train_sample()[0], data.num_classes)
    tensors |= {f"{SPARSITY}{name}": share for name, share in silent.items()}
    if (filters := first_layer(state, data.shape)) is not None:
        tensors[FILTERS] = filters.float().clone()
    preprocessing = Preprocessing.of(data)
    tensors |= preprocessing.tensors()
    path = folder / uuid.uuid4().hex  # without an ending: the id by which Optuna knows an artifact is its file's name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written under its final name and only then announced: nobody reads it before it is whole.
        metadata = {"trial": str(best.number), "epoch": str(best.epoch), "val_acc": repr(best.val_acc)}
        if config.train.metric != ACCURACY.name:
            metadata |= {"metric": config.train.metric, "value": repr(best.val_score)}
        metadata |= {UPDATES: json.dumps(dict(updates))} if updates else {}
        metadata |= preprocessing.metadata() | (threshold.metadata() if threshold is not None else {})
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)
    except OSError as error:
        path.unlink(missing_ok=True)
        log.warning("the weights of trial %d are not kept: %s", best.number, error)
        return None
    return path.resolve()


def announce_portrait(
    db: Database, study: StudyRow, new: KeptWeights, *, replaces: bool = True, chosen: bool = False
) -> None:
    """Make a file the portrait of its study, and an artifact in Optuna's sense, unless a better one is there.

    Among equals the trial with the lowest number counts, as it does for the study's best. The file that loses goes
    away where the new one `replaces` the old one. What has been `chosen` by other means is the portrait whatever its
    value. May be called again after an outage.
    """
    replaced: list[Path] = []

    direction = direction_of(study)
    own = goodness(new.value, direction), -new.number

    def decide(stored: Any) -> AttrChange | None:
        replaced.clear()
        old = kept_weights(stored)
        other = old if old is not None and old.path != new.path else None
        if not chosen and other is not None and (goodness(other.value, direction), -other.number) >= own:
            return None  # another worker found a better one
        artifact = {
            "artifact_id": new.path.name,
            "filename": f"trial-{new.number}.safetensors",
            "mimetype": "application/octet-stream",
            "encoding": None,
        }
        artifacts = {f"{ARTIFACT}{new.path.name}": json.dumps(artifact)}
        if other is not None:
            replaced.append(other.path)
            artifacts[f"{ARTIFACT}{other.path.name}"] = "null"  # as Optuna marks what was removed
        return AttrChange({attributes.PORTRAIT: new.as_dict()}, artifacts)

    # Two workers may find a better one at the same moment: the second of them compares with the first.
    if not change_attrs(db, study, attributes.PORTRAIT, decide):
        replaced.append(new.path)
    if replaces:
        for loser in replaced:
            loser.unlink(missing_ok=True)


def load_portrait(study: StudyRow) -> Portrait | None:
    """The portrait of a study's best trial; None if none was kept, or its file is not on this machine.

    Raises:
        StorageError: the file is there but broken.
    """
    kept = stage_record(study).weights
    if kept is None or not kept.path.is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(kept.path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"the weights of trial {kept.number} cannot be read: {kept.path}: {error}") from None
    sparsity = {n.removeprefix(SPARSITY): share for n, share in tensors.items() if n.startswith(SPARSITY)}
    return Portrait(kept.number, kept.value, kept.path, tensors.get(FILTERS), sparsity, kept.epoch)


def read_silent_units(study: StudyRow, trial: TrialRow) -> dict[str, list[float]]:
    """Of a trial whose weights are kept: by activation layer, the share of training images for which each unit was 0.

    Empty where they are not kept, or not on this machine, or not to be read; nothing else of the file is.
    """
    return _or_nothing(silent_units, study, trial)


def read_update_ratios(study: StudyRow, trial: TrialRow) -> dict[str, float]:
    """Of a trial whose weights are kept: |update| / |weights| of each layer, in the last step that it made.

    Empty as in `read_silent_units`, and where an older version kept the weights.
    """
    return _or_nothing(layer_update_ratios, study, trial)


def silent_units(path: Path) -> dict[str, list[float]]:
    """As `read_silent_units`, of a file of weights.

    Raises:
        StorageError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            names = [name for name in file.keys() if name.startswith(SPARSITY)]  # noqa: SIM118 - it is no dict
            return {name.removeprefix(SPARSITY): file.get_tensor(name).ravel().tolist() for name in names}
    except (OSError, SafetensorError) as error:
        raise StorageError(f"the weights in {path} cannot be read: {error}") from None


def layer_update_ratios(path: Path) -> dict[str, float]:
    """As `read_update_ratios`, of a file of weights.

    Raises:
        StorageError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            stored = json.loads((file.metadata() or {}).get(UPDATES, "{}"))
        return {str(name): float(ratio) for name, ratio in stored.items()}
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise StorageError(f"the weights in {path} cannot be read: {error}") from None


def _or_nothing(read: Callable[[Path], dict[str, Seen]], study: StudyRow, trial: TrialRow) -> dict[str, Seen]:
    """What is read of the weights of a trial, where they were put."""
    best = stage_record(study).weights
    path = best.path if best is not None and best.number == trial.number else trial_record(trial).weights
    if path is None or not path.is_file():
        return {}
    try:
        return read(path)
    except StorageError as error:
        log.warning("trial %d: %s", trial.number, error)
        return {}


def read_weights(path: Path) -> tuple[dict[str, Tensor], Preprocessing | None]:
    """The state of the net in a file of weights, and what was done to its images; None where an older
    version did not keep that.

    Raises:
        StorageError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    from hpsearch.datasets.preprocessing import Preprocessing

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            preprocessing = Preprocessing.read(file.metadata() or {}, tensors)
    except (OSError, SafetensorError, DataError) as error:
        raise StorageError(f"the weights in {path} cannot be read: {error}") from None
    return {n.removeprefix(WEIGHTS): tensor for n, tensor in tensors.items() if n.startswith(WEIGHTS)}, preprocessing


def read_threshold(path: Path) -> Threshold | None:
    """That which was found with the weights in a file; None where none was.

    Raises:
        StorageError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    from hpsearch.training.threshold import Threshold

    try:
        with safe_open(path, "pt") as file:
            return Threshold.read(file.metadata() or {})
    except (OSError, SafetensorError, DataError) as error:
        raise StorageError(f"the weights in {path} cannot be read: {error}") from None
