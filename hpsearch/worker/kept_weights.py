"""Whose weights outlive the search: the best trial's, everybody's, or nobody's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hpsearch.analysis.records import KeptWeights
from hpsearch.config import RunConfig, StudyConfig
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.datasets.device import TrainingData
from hpsearch.results import EpochResult
from hpsearch.storage import Database, StudyRow, TrialRow
from hpsearch.training.class_scores import class_scores
from hpsearch.training.features import head_state
from hpsearch.training.folds import TrainedPack
from hpsearch.training.metrics import all_measures
from hpsearch.training.threshold import find_threshold
from hpsearch.worker.best_weights import announce_portrait, write_portrait
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.pack_endings import Kept
from hpsearch.worker.writer import Writer


class Keeper:
    """Keeps weights of the trials that complete, as `run.keep` says.

    Args:
        db: where the best one is announced, by the writer.
        study: the stage.
        best: the best trial of the stage so far; None before the first value.
        metric: what the values are.
    """

    def __init__(
        self, db: Database, study: StudyRow, run: RunConfig, best: TrialRow | None, metric: Metric = ACCURACY
    ) -> None:
        self.db, self.study, self.run_config, self.metric = db, study, run, metric
        self._best = None if best is None or best.value is None else (metric.goodness(best.value), -best.number)
        """How good the best is, and its number, negative: of equals the lowest counts, in whatever order they end."""

    def keep(
        self,
        pack: TrainedPack,
        config: StudyConfig,
        data: TrainingData,
        completed: Mapping[int, HeldTrial],
        writer: Writer,
    ) -> dict[int, Kept]:
        """What is kept with trials that are still in the pack, by number: something with all of them, or with none.

        With weights that are written come all measures of their epoch. Of folds, both are those of the first one.
        """
        if self.run_config.keep == "none" or not completed:
            return {}
        folder = Path(self.run_config.artifact_dir)
        kept: dict[int, Kept] = {}

        def write(number: int) -> Kept | None:
            if number not in kept:
                state, updates = pack.state(number), pack.update_ratios(number)
                written = write_kept(folder, state, config, data, completed[number].best, updates)
                if written is not None:
                    kept[number] = written
            return kept.get(number)

        goodness = self.metric.goodness
        number, trial = max(completed.items(), key=lambda item: (goodness(item[1].value), -item[0]))
        value, epoch = trial.value, trial.best.epoch
        if self._best is None or (goodness(value), -number) > self._best:
            self._best = goodness(value), -number
            if (best := write(number)) is not None:
                new = KeptWeights(best.path, number, value, epoch, best.measures)
                replaces = self.run_config.keep == "best"
                writer.later(lambda: announce_portrait(self.db, self.study, new, replaces=replaces))
        if self.run_config.keep == "all":
            for each in completed:
                write(each)
            return kept
        return {}


def write_kept(
    folder: Path,
    state: Mapping[str, Tensor],
    config: StudyConfig,
    data: TrainingData,
    best: EpochResult,
    updates: Mapping[str, float],
) -> Kept | None:
    """Write the weights of a trial's best epoch, and measure them; None where they could not be written.

    `updates` are as `Pack.update_ratios` gives them.
    """
    own = state if data.body is None else head_state(config, data, state)
    model, _ = data.trained_net(config.model)
    logits_NC = class_scores(model, own, data.x_val_NCHW, data.num_classes)
    threshold = find_threshold(config.train.metric, logits_NC, data.y_val_N)
    path = write_portrait(folder, state, config, data, best, threshold, updates)
    return Kept(path, all_measures(logits_NC, data.y_val_N, config.train.loss)) if path is not None else None
