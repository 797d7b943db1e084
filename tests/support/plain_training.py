"""The reference of the training tests: small images, and an ordinary PyTorch training loop for one trial."""

import copy
import dataclasses
import functools
import hashlib

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss, multi_margin_loss, one_hot

from hpsearch.config import StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.mixing import MixedLabels, SoftLabels
from hpsearch.datasets.normalization import fit
from hpsearch.models import build, initialize
from hpsearch.runtime import step_seed
from hpsearch.training.choice import ENGINES


def dealt(cases, engines=ENGINES):
    """(engine, case) for each case in fused, which does all by hand, and in one of the others, in turn.

    Those differ in how they come to gradients, not in losses and updates: each of them with each optimizer and each
    kind of net is in `test_exactness.test_thirty_steps_equal_a_plain_loop`.
    """
    others = [engine for engine in engines if engine != "fused"]
    return [
        pytest.param(engine, case, id=f"{engine}-{case if isinstance(case, str) else '-'.join(map(str, case))}")
        for number, case in enumerate(cases)
        for engine in ("fused", others[number % len(others)])
    ]


def make_data(num_train=60, num_val=20, shape=(1, 8, 8), num_classes=4, dtype=torch.float64, noise=1.0):
    """Class templates plus noise."""
    generator = torch.Generator().manual_seed(0)
    templates = torch.randn(num_classes, *shape, generator=generator, dtype=torch.float64)

    def part(num):
        y_N = torch.arange(num) % num_classes
        return templates[y_N] + noise * torch.randn(num, *shape, generator=generator, dtype=torch.float64), y_N

    (x_train, y_train), (x_val, y_val) = part(num_train), part(num_val)
    return TrainingData(
        x_train_NCHW=x_train.to(dtype),
        y_train_N=y_train,
        x_val_NCHW=x_val.to(dtype),
        y_val_N=y_val,
        shape=shape,
        class_names=tuple(str(index) for index in range(num_classes)),
        normalization=fit("none", x_train.numpy(), 1.0),
        augment=(),
        fingerprint="",
    )


def make_config(epochs=5, explosion=3.0, **params):
    """A config in float64 with batches of 6; hyperparameters with `__` for the dot: `model__name="lenet"`."""
    values = {"train.precision": "float64", "train.batch_size": 6, "lr": 0.01}
    values |= {name.replace("__", "."): value for name, value in params.items()}
    config = StudyConfig().with_params(values)
    return config.model_copy(
        update={"train": config.train.model_copy(update={"epochs": epochs, "explosion": explosion})}
    )


class PlainNAdam(torch.optim.NAdam):
    """With its product of momenta in float64 instead of in the default type."""

    def step(self):
        torch.set_default_dtype(torch.float64)
        super().step()
        torch.set_default_dtype(torch.float32)


class PlainLion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, as it stands there."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                g = parameter.grad
                m = self.state[parameter].setdefault("m", torch.zeros_like(g))
                c = beta1 * m + (1 - beta1) * g
                parameter -= group["lr"] * (c.sign() + group["weight_decay"] * parameter)
                self.state[parameter]["m"] = beta2 * m + (1 - beta2) * g


@dataclasses.dataclass(frozen=True)
class _Setting:
    """Equal where the same is trained: the same values, and images that are the same numbers."""

    values: str
    digest: str
    config: StudyConfig = dataclasses.field(compare=False)
    data: TrainingData = dataclasses.field(compare=False)
    teacher: torch.Tensor | None = dataclasses.field(compare=False)


def trained(config, data, logq_NC=None):
    """A PlainTrial that is through its epochs, to be read only.

    Every engine, and every pack that went on from a snapshot, is held to the same trial, which costs more than they do:
    the last few are kept.
    """
    fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)} | {"logq_NC": logq_NC}
    digest = hashlib.sha256()
    for name, value in fields.items():
        is_tensor = isinstance(value, torch.Tensor)
        digest.update(f"{name} {(value.dtype, tuple(value.shape)) if is_tensor else value!r} ".encode())
        if is_tensor:
            digest.update(value.contiguous().numpy().tobytes())
    return _trained(_Setting(repr(config), digest.hexdigest(), config, data, logq_NC))


@functools.lru_cache(maxsize=12)
def _trained(setting):
    return PlainTrial(setting.config, setting.data, setting.teacher).run()


class PlainTrial:
    """One trial, trained the ordinary way: nn.Module, torch.optim, autograd through the whole cost.

    With logarithms of a teacher's probabilities of the training images, batches have rows in the place of labels.
    """

    def __init__(self, config, data, logq_NC=None):
        self.config, self.data, self.logq_NC = config, data, logq_NC
        rows_N = torch.arange(data.num_train)
        self.shown = data if logq_NC is None else dataclasses.replace(data, y_train_N=rows_N)
        train = config.train
        self.module = build(config.model, data.shape, data.num_classes).to(data.x_train_NCHW.dtype)
        initialize(
            self.module, config.model.init, train.seed, activation=config.model.activation, bias=config.model.init_bias
        )
        self.weights = [parameter for parameter in self.module.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.module.parameters() if parameter.ndim <= 1]
        with torch.no_grad():
            for weight in self.weights:
                weight.mul_(config.model.init_scale)
        groups = [{"params": self.weights}, {"params": others}]
        betas = (train.momentum, train.beta2)
        match train.optimizer:
            case "sgd":
                self.optimizer = torch.optim.SGD(groups, train.lr)
            case "momentum" | "nesterov" as name:
                self.optimizer = torch.optim.SGD(groups, train.lr, train.momentum, nesterov=name == "nesterov")
            case "adam":
                self.optimizer = torch.optim.Adam(groups, train.lr, betas)
            case "adamw":
                groups = [dict(groups[0], weight_decay=train.weight_decay), dict(groups[1], weight_decay=0.0)]
                self.optimizer = torch.optim.AdamW(groups, train.lr, betas)
            case "nadam":
                self.optimizer = PlainNAdam(groups, train.lr, betas)
            case "rmsprop":
                self.optimizer = torch.optim.RMSprop(groups, train.lr, train.beta2, momentum=train.momentum)
            case "adagrad":
                self.optimizer = torch.optim.Adagrad(groups, train.lr)
            case "lion":
                groups = [dict(groups[0], weight_decay=train.weight_decay), dict(groups[1], weight_decay=0.0)]
                self.optimizer = PlainLion(groups, {"lr": train.lr, "betas": betas})
        self.scheduler = {
            "exponential": lambda: torch.optim.lr_scheduler.ExponentialLR(self.optimizer, train.lr_decay),
            "step": lambda: torch.optim.lr_scheduler.StepLR(self.optimizer, train.lr_step, train.lr_decay),
            "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, train.epochs),
            "linear": lambda: torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.0, train.epochs),
            "sgdr": lambda: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
                self.optimizer, train.lr_period, train.lr_period_factor
            ),
            "inverse-sqrt": lambda: torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda done: (1 + done) ** -0.5),
            "constant": lambda: torch.optim.lr_scheduler.ConstantLR(self.optimizer, 1.0),
            "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer,
                train.lr,
                train.epochs * -(-data.num_batches(train.batch_size) // train.accumulate),
                cycle_momentum=False,
            ),
        }[train.lr_schedule]()
        self.averaged = copy.deepcopy(self.module) if train.ema else self.module  # what is measured
        self.costs = []  # of all steps
        self.states = []  # weights and buffers before each update
        self.epochs = []  # as EpochResult has them: cost, train_loss, train_acc, val_loss, val_acc, ratio, lr

    def run(self, epochs=None):
        for epoch in range(1, (epochs or self.config.train.epochs) + 1):
            self._run_epoch(epoch)
        return self

    def state(self):
        return {name: tensor.clone() for name, tensor in self.module.state_dict().items()}

    def _run_epoch(self, epoch):
        train, first = self.config.train, len(self.costs)
        batches = list(self.shown.batches(train.seed, epoch, train.batch_size))
        self.module.train()
        num_updates = -(-len(batches) // train.accumulate)
        for start in range(0, len(batches), train.accumulate):
            self.states.append(self.state())
            losses, counts = [], []
            for step, (x_BCHW, y_B) in list(enumerate(batches))[start : start + train.accumulate]:
                # Not `torch.manual_seed`: without a GPU that writes down the whole stack three times.
                torch.default_generator.manual_seed(step_seed(train.seed, epoch, step))
                losses.append(self._data_loss(self.module(x_BCHW), y_B))
                counts.append(self._count(y_B))
            shares = [count / sum(counts) for count in counts]
            cost = sum(loss * share for loss, share in zip(losses, shares, strict=True))
            cost = cost + train.reg / 2 * sum((weight**2).sum() for weight in self.weights)
            cost = cost + train.l1 * sum(weight.abs().sum() for weight in self.weights)
            self.optimizer.zero_grad()
            cost.backward()
            if train.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.module.parameters(), train.clip_norm)
            scheduled = [group["lr"] for group in self.optimizer.param_groups]
            if train.warmup:
                for group in self.optimizer.param_groups:
                    group["lr"] *= min(1.0, (len(self.costs) + 1) / (train.warmup * num_updates))
            before = [weight.detach().clone() for weight in self.weights]
            self.optimizer.step()
            lr = self.optimizer.param_groups[0]["lr"]
            for group, rate in zip(self.optimizer.param_groups, scheduled, strict=True):
                group["lr"] = rate
            if train.lr_schedule == "one-cycle":
                self.scheduler.step()
            self.costs.append(cost.item())
            if train.ema:
                self._average()
        update = sum(((new - old) ** 2).sum() for new, old in zip(self.weights, before, strict=True)) ** 0.5
        ratio = update / sum((old**2).sum() for old in before) ** 0.5
        costs = self.costs[first:]
        train_part = self._evaluate(*self.data.train_sample())
        val_part = self._evaluate(self.data.x_val_NCHW, self.data.y_val_N)
        self.plain_acc = val_part[1]
        if train.ema:
            self.plain_acc = self._evaluate(self.data.x_val_NCHW, self.data.y_val_N, self.module)[1]
        self.epochs.append([sum(costs) / len(costs), *train_part, *val_part, ratio.item(), lr])
        if train.lr_schedule != "one-cycle":
            self.scheduler.step()

    @torch.no_grad()
    def _average(self):
        """After an update."""
        num = len(self.costs)
        decay = min(self.config.train.ema, num / (num + 9))
        for average, own in zip(self.averaged.state_dict().values(), self.module.state_dict().values(), strict=True):
            average.copy_(decay * average + (1 - decay) * own if own.is_floating_point() else own)

    def _class_weights(self):
        counts = torch.bincount(self.data.y_train_N).double()
        return counts.sum() / (len(counts) * counts)

    def _count(self, y_B):
        if isinstance(y_B, SoftLabels):
            balanced = self.config.train.class_weights == "balanced"
            return (y_B.rows_BC * self._class_weights()).sum().item() if balanced else len(y_B)
        if isinstance(y_B, MixedLabels):
            share = float(y_B.share)
            return share * self._count(y_B.first_B) + (1 - share) * self._count(y_B.second_B)
        y_B = y_B if self.logq_NC is None else self.data.y_train_N[y_B]
        balanced = self.config.train.class_weights == "balanced"
        return self._class_weights()[y_B].sum().item() if balanced else len(y_B)

    def _data_loss(self, logits_BC, y_B):
        if isinstance(y_B, MixedLabels):
            first, second = (self._data_loss(logits_BC, labels) for labels in (y_B.first_B, y_B.second_B))
            return float(y_B.share) * first + (1 - float(y_B.share)) * second
        if self.logq_NC is not None:
            share, rows_B, y_B = self.config.train.distill, y_B, self.data.y_train_N[y_B]
            asked = self._taught_loss(logits_BC, rows_B, y_B) if share else 0
            return (1 - share) * self._label_loss(logits_BC, y_B) + share * asked
        return self._label_loss(logits_BC, y_B)

    def _taught_loss(self, logits_BC, rows_B, y_B):
        temperature = self.config.train.distill_temperature
        q_BC = (self.logq_NC[rows_B] / temperature).softmax(1)
        divergence_BC = torch.nn.functional.kl_div((logits_BC / temperature).log_softmax(1), q_BC, reduction="none")
        balanced = self.config.train.class_weights == "balanced"
        weight_B = self._class_weights()[y_B] if balanced else torch.ones(len(y_B), dtype=torch.float64)
        return temperature**2 * (divergence_BC.sum(1) * weight_B).sum() / weight_B.sum()

    def _label_loss(self, logits_BC, y_B):
        train, weight = self.config.train, None
        if isinstance(y_B, SoftLabels):  # as torch has it for probabilities; its mean is over images, though
            weight = self._class_weights().to(logits_BC) if train.class_weights == "balanced" else None
            if train.focal == 0:
                options = {"label_smoothing": train.label_smoothing, "reduction": "sum"}
                return cross_entropy(logits_BC, y_B.rows_BC.to(logits_BC), weight, **options) / self._count(y_B)
            target = y_B.rows_BC.to(logits_BC) * (1 - train.label_smoothing)
            target = (target + train.label_smoothing / logits_BC.shape[1]) * (1 if weight is None else weight)
            p_BC = logits_BC.softmax(1)
            return -(target * (1 - p_BC) ** train.focal * p_BC.log()).sum() / self._count(y_B)
        if train.class_weights == "balanced":
            weight = self._class_weights().to(logits_BC.dtype)
        if train.loss != "cross-entropy":
            return self._of_scores(logits_BC, y_B, weight, train.label_smoothing)
        if train.focal == 0:
            return cross_entropy(logits_BC, y_B, weight, label_smoothing=train.label_smoothing)
        target = torch.nn.functional.one_hot(y_B, logits_BC.shape[1]).to(logits_BC) * (1 - train.label_smoothing)
        target = (target + train.label_smoothing / logits_BC.shape[1]) * (1 if weight is None else weight)
        losses = torch.stack([-((1 - p) ** train.focal) * p.log() for p in logits_BC.softmax(1).unbind(1)], 1)
        return (target * losses).sum() / (len(y_B) if weight is None else weight[y_B].sum())

    def _of_scores(self, scores_BC, y_B, weight=None, smoothing=0.0):
        """Without weights the mean of all; with them each image counts its class's."""
        num = scores_BC.shape[1]
        if weight is not None:
            images = [self._of_scores(scores_BC[b : b + 1], y_B[b : b + 1], None, smoothing) for b in range(len(y_B))]
            return (torch.stack(images) * weight[y_B]).sum() / weight[y_B].sum()
        if self.config.train.loss == "hinge":
            return num * multi_margin_loss(scores_BC, y_B)
        return num * mse_loss(scores_BC, one_hot(y_B, num).to(scores_BC) * (1 - smoothing) + smoothing / num)

    @torch.no_grad()
    def _evaluate(self, x_NCHW, y_N, module=None):
        module = (module or self.averaged).eval()
        logits_NC = module(x_NCHW)
        measured = cross_entropy if self.config.train.loss == "cross-entropy" else self._of_scores
        return measured(logits_NC, y_N).item(), (logits_NC.argmax(1) == y_N).double().mean().item()
