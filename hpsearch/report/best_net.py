"""The net of the best trial with its images, loaded once for all sections that are made of them; or why it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hpsearch.config import RunConfig
from hpsearch.datasets.catalog import is_present
from hpsearch.errors import HpsearchError, RefusedError
from hpsearch.logs import get_logger
from hpsearch.report.stage import StageData

if TYPE_CHECKING:
    from hpsearch.datasets.device import TrainingData
    from hpsearch.search.trained_net import TrainedNet

log = get_logger(__name__)

Section = TypeVar("Section")


@dataclass(frozen=True, eq=False)
class BestNet:
    """A net, and the images that it was trained on."""

    net: TrainedNet
    data: TrainingData


@dataclass(frozen=True)
class Missing:
    """Why there is none, in a sentence."""

    why: str


def load_best(stage: StageData, run: RunConfig) -> BestNet | Missing | None:
    """Of the best trial of a stage; None where there is no such trial, or another program made it."""
    if stage.best is None or not stage.record.trained_here:
        return None
    return or_why("the best net", lambda: _load(stage, run))


def or_why(what: str, make: Callable[[], Section]) -> Section | Missing:
    """What is made, or why it cannot be: a report is made without it, too."""
    try:
        return make()
    except HpsearchError as error:
        why = str(error)
    except (MemoryError, RuntimeError) as error:  # as where a search fills the GPU
        log.warning("%s: %s", what, error)
        why = f"{type(error).__name__}: {error}"
    return Missing(f"Not shown: {why.partition(chr(10))[0].rstrip('.')}.")


def _load(stage: StageData, run: RunConfig) -> BestNet:
    best, kept = stage.best, stage.record.weights
    assert best is not None
    if kept is None and "weights" not in best.attrs:  # without a second for torch
        raise RefusedError(f"the weights of trial {best.number} of {stage.name} are not kept")
    from hpsearch.search.stored_trials import images_of
    from hpsearch.search.trained_net import load_net

    net = load_net(stage.evidence, run)
    data_config = net.stored.config.data
    if not is_present(data_config, Path(run.data_dir)):
        raise RefusedError(f"{data_config.source} is not below {run.data_dir}, and a report downloads nothing")
    return BestNet(net, images_of(net.stored, run))
