"""[train]: how one trial trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from hpsearch.config.data_sources import FUNCTION, is_user_code
from hpsearch.config.fields import MAX_SEED, CameLater, Known, Options, OptionsField, Section, UsedBy, Vector
from hpsearch.config.losses import CROSS_ENTROPY, Loss
from hpsearch.config.metric import METRICS
from hpsearch.errors import ConfigError

WITH_BETA2 = ("adam", "adamw", "nadam", "rmsprop", "lion")
WITH_MOMENTUM = ("momentum", "nesterov", *WITH_BETA2)
METRIC_FORMS = Known(METRICS, (FUNCTION,))


def _metric(name: str) -> str:
    if name in METRICS or is_user_code(name):
        return name
    raise ValueError(f"allowed: {METRIC_FORMS}")


def _step(name: str | None) -> str | None:
    if name is None or is_user_code(name):
        return name
    raise ValueError(f"allowed: {Known((), (FUNCTION,))}, as losses:step")


def _numbers_alone(options: Any) -> Any:
    for key, value in options.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number:
            raise ValueError(f"allowed: numbers, so not {key} = {value!r}")
    return options


class TrainConfig(Section):
    """How one trial trains."""

    epochs: int = Field(10, ge=1)
    """Passes over the training images; a stage's own number replaces it."""
    batch_size: int = Field(100, ge=1)
    """Images in a minibatch; the last one of an epoch may be smaller."""
    accumulate: Annotated[int, CameLater, Field(ge=1)] = 1
    """Minibatches of an update, from the mean gradient of their images; those of an epoch's last one may be fewer."""
    optimizer: Literal["sgd", "momentum", "nesterov", "adam", "adamw", "nadam", "rmsprop", "adagrad", "lion"] = (
        "momentum"
    )
    """The update rule."""
    lr: Annotated[float, Vector, Field(gt=0)] = 1e-2
    """Learning rate of the first epoch; of one-cycle, the highest."""
    body_lr: Annotated[float, Vector, CameLater, Field(gt=0, le=1)] = 1.0
    """Factor of lr for all but the head, the last layer of a net."""
    layer_decay: Annotated[float, Vector, CameLater, Field(gt=0, le=1)] = 1.0
    """Factor of lr from each stage of the net to the one before it, from the head on."""
    warmup: Annotated[float, Vector, CameLater, Field(ge=0)] = 0.0
    """Epochs, or a part of one, in which the rate rises, step by step, from near 0 to the schedule's; 0: none."""
    clip_norm: Annotated[float, Vector, CameLater, Field(ge=0)] = 0.0
    """A gradient of the cost whose norm over all trained parameters is larger is scaled down to it; 0: none is."""
    momentum: Annotated[float, Vector, UsedBy("train.optimizer", *WITH_MOMENTUM), Field(ge=0, lt=1)] = 0.9
    """momentum, nesterov and rmsprop: share of the last update kept. adam, adamw, nadam and lion: beta1."""
    beta2: Annotated[float, Vector, UsedBy("train.optimizer", *WITH_BETA2), Field(ge=0, lt=1)] = 0.999
    """adam, adamw and nadam: decay of the squared gradients' average; rmsprop: alpha, 0.99 in PyTorch; lion: decay of
    the gradients' average, 0.99 in its paper.
    """
    reg: Annotated[float, Vector, Field(ge=0)] = 0.0
    """L2 regularization: reg/2 * sum W^2 is added to the cost; weights only, not biases."""
    l1: Annotated[float, Vector, Field(ge=0)] = 0.0
    """L1 regularization: l1 * sum |W| is added to the cost; weights only, not biases."""
    weight_decay: Annotated[float, Vector, UsedBy("train.optimizer", "adamw", "lion"), Field(ge=0)] = 0.0
    """adamw and lion: decoupled decay, lr * weight_decay * W off each step; weights only, not biases."""
    loss: Annotated[Loss, CameLater] = CROSS_ENTROPY
    """What is made small: cross-entropy of softmax; or of the scores themselves: squared, the sum over the classes of
    (score - target)^2, with 1 for the true one and else 0; or hinge, the multi-class one with margins of 1.
    """
    label_smoothing: Annotated[float, Vector, UsedBy("train.loss", CROSS_ENTROPY, "squared"), Field(ge=0, lt=1)] = 0.0
    """cross-entropy and squared: mass moved off the true class, spread over all classes."""
    focal: Annotated[float, Vector, CameLater, UsedBy("train.loss", CROSS_ENTROPY), Field(ge=0)] = 0.0
    """cross-entropy: gamma of the focal loss. Images count (1 - p)^gamma, those that are sure less; 0: all alike."""
    class_weights: Annotated[Literal["none", "balanced"], CameLater] = "none"
    """balanced: in the training loss, images of a class count as many times as it has fewer than the mean class."""
    teacher: Annotated[str | None, CameLater] = None
    """Folder that best --weights or ensemble --weights wrote: train.distill says how much its nets are learnt from."""
    distill: Annotated[float, Vector, CameLater, Field(ge=0, le=1)] = 0.0
    """Share of the loss by what the teacher says of an image, beside its label (Hinton et al. 2015); 0: none."""
    distill_temperature: Annotated[float, Vector, CameLater, Field(gt=0)] = 4.0
    """Of distill: by how much teacher's and net's logits are divided, so that small probabilities count, too."""
    step: Annotated[str | None, CameLater, AfterValidator(_step)] = None
    """MODULE:FUNCTION, in place of cross-entropy: called with (model, (images, labels), params), it returns the loss of
    a minibatch, one number or one for each image; see docs/own-code.md. Or "none".
    """
    step_options: Annotated[OptionsField, Vector, CameLater, AfterValidator(_numbers_alone)] = Options()
    """Numbers of the step's params, each of which can be searched: "train.step_options.alpha"."""
    ema: Annotated[float, Vector, CameLater, Field(ge=0, lt=1)] = 0.0
    """Decay of a moving average of the weights, as 0.999, which is then what is measured and kept; 0: none. It begins
    shorter: after n updates the decay is n / (n + 9) at most.
    """
    lr_schedule: Literal["exponential", "step", "cosine", "linear", "one-cycle", "sgdr", "inverse-sqrt", "constant"] = (
        "exponential"
    )
    """exponential: times lr_decay each epoch; step: every lr_step epochs; cosine: half a wave down over the epochs;
    linear: a line down; one-cycle: up from lr/25 and down to next to 0, step by step; sgdr: cosine, with restarts after
    lr_period epochs; inverse-sqrt: lr over the root of the epoch; constant.
    """
    lr_decay: Annotated[float, Vector, UsedBy("train.lr_schedule", "exponential", "step"), Field(gt=0, le=1)] = 0.95
    """Factor of the exponential and step schedules."""
    lr_step: Annotated[int, UsedBy("train.lr_schedule", "step"), Field(ge=1)] = 10
    """step: epochs between two decays."""
    lr_period: Annotated[int, CameLater, UsedBy("train.lr_schedule", "sgdr"), Field(ge=1)] = 10
    """sgdr: epochs before the first restart."""
    lr_period_factor: Annotated[int, CameLater, UsedBy("train.lr_schedule", "sgdr"), Field(ge=1)] = 2
    """sgdr: times longer each time."""
    patience: Annotated[int | None, CameLater, Field(ge=1)] = None
    """Epochs without a better value of the metric, as the mean of 3 epochs, after which a trial ends; or "none".
    Schedules of the learning rate stay those of all epochs.
    """
    metric: Annotated[str, CameLater, AfterValidator(_metric), METRIC_FORMS] = "accuracy"
    """What decides, on validation images: accuracy, balanced_accuracy, macro_f1, auroc, top5, loss, MODULE:FUNCTION."""
    explosion: float = Field(3.0, gt=1)
    """A trial is stopped when its cost exceeds this many times its first cost (CS231n's rule: 3)."""
    precision: Literal["auto", "float32", "float64", "bfloat16", "float16"] = "auto"
    """Of weights, data, arithmetic; bfloat16: of products only; float16: as well, for GPUs without bfloat16, with
    losses scaled; auto: bfloat16 where it makes a large search faster.
    """
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Initial weights, order of the minibatches, augmentation and dropout noise."""

    @field_validator("patience", "teacher", "step", mode="before")
    @classmethod
    def _none(cls, given: Any) -> Any:
        """TOML has no null, but a stage may want no patience where the others have some."""
        return None if given == "none" else given

    @model_validator(mode="after")
    def _one_loss(self) -> TrainConfig:
        for key, without in (("label_smoothing", 0), ("focal", 0), ("distill", 0), ("loss", CROSS_ENTROPY)):
            if self.step is not None and (value := getattr(self, key)) != without:
                raise ConfigError(
                    f"train.{key} = {value!r} is of our own loss, and train.step = {self.step!r} has another."
                    f"\nAllowed: train.{key} = {without!r}, and a number of train.step_options in its place."
                )
        return self
