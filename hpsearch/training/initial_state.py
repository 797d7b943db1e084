"""What trials of a pack begin with: the net with its initial weights, and the layers of noise that they need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hpsearch.config import ModelConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import EngineError
from hpsearch.models import NOISES, build_initialized
from hpsearch.models.lsuv import NUM_IMAGES
from hpsearch.models.stages import set_head
from hpsearch.training.accumulation import num_updates
from hpsearch.training.data_loss import balanced_weights
from hpsearch.training.distillation import Taught
from hpsearch.training.precision import PRECISIONS
from hpsearch.training.state import PackState
from hpsearch.training.teacher import refuse_missing, taught
from hpsearch.training.vectors import Vectors

LIKELY_RATE = 0.5  # any rate of a noise above 0 puts the layers there that trials to come may need


@dataclass(frozen=True, eq=False)
class InitialState:
    """The same for all trials of a pack but for their own init_scale, whenever they come."""

    config: StudyConfig
    data: TrainingData
    model: ModelConfig
    """With the layers of noise."""
    taught: Taught | None
    """Where there is a teacher."""

    @classmethod
    def of(cls, config: StudyConfig, data: TrainingData, vectors: Vectors, *, refills: bool) -> InitialState:
        """For trials with these vectors, and where the pack `refills`, for any of the space.

        Raises:
            ConfigError: there is no such teacher.
            RefusedError: the teacher is code of the user's that nobody has vouched for.
        """
        asked = taught(config, data)
        # Layers of noise are there as soon as one trial needs them; its rate is the trial's own.
        rates = {f"model.{key}": float(getattr(vectors, key).max()) for key in NOISES}
        if refills:
            rates |= {key: max(rate, LIKELY_RATE) for key, rate in rates.items() if key in config.space}
        return cls(config, data, config.with_params(rates).model, asked)

    def refuse_missing_noises(self, vectors: Vectors) -> None:
        """Say no to trials with a noise for which there are no layers.

        Raises:
            EngineError: one has it.
        """
        for noise in NOISES:
            if getattr(self.model, noise) == 0 and bool(getattr(vectors, noise).any()):
                raise EngineError(f"trials with {noise} do not fit into a pack without.")

    def begin(self, vectors: Vectors) -> tuple[nn.Module, PackState]:
        """The net with its initial weights, and so many trials that begin with them.

        Raises:
            ConfigError: a trial would learn from a teacher, and there is none.
        """
        data, train = self.data, self.config.train
        refuse_missing(self.taught is not None, float(vectors.distill.max()))
        images = data.train_sample(NUM_IMAGES)[0] if self.model.init == "lsuv" else None
        module = build_initialized(*data.trained_net(self.model), data.num_classes, train.seed, images)
        if data.body is not None:  # all layers are the head's, and have its rate
            set_head(module, tuple(name for name, _ in module.named_children()))
        like = torch.empty(0, dtype=PRECISIONS[train.precision], device=data.x_train_NCHW.device)
        weights = balanced_weights(data.y_train_N, data.num_classes) if train.class_weights == "balanced" else None
        has_rates = not {"train.body_lr", "train.layer_decay"}.isdisjoint(self.config.space)
        sizes = data.num_classes, num_updates(data.num_batches(train.batch_size), train.accumulate)
        return module, PackState(module, vectors, train, *sizes, like, weights, self.taught, has_rates=has_rates)
