"""The images of a study, on the device of this run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hpsearch.config import RunConfig, StudyConfig
from hpsearch.datasets.device import TrainingData, prepare
from hpsearch.runtime import resolve_device, set_threads
from hpsearch.training.precision import PRECISIONS


def load_images(
    config: StudyConfig, run: RunConfig, progress: Callable[[int, int], None] | None = None
) -> TrainingData:
    """Read, check, split, normalize and place them; `progress` hears (done, total) while files are decoded.

    Raises:
        DataError: they cannot be read, or are not fit to train on.
        ConfigError: the device does not exist here.
    """
    set_threads(run.threads)
    dtype = PRECISIONS[config.train.precision]
    return prepare(config.data, resolve_device(run.device), dtype, Path(run.data_dir), progress, run.memory)
