"""The parts that train: the optimizer with its groups, the rate of each step, the loss, the metric of each epoch."""

from __future__ import annotations

from typing import Any

from hpsearch.config import StudyConfig, TrainConfig
from hpsearch.config.metric import metric_of
from hpsearch.config.usercode import is_user_code
from hpsearch.search.training_script.augmentation_part import mixing
from hpsearch.search.training_script.parts import Part, part

DECOUPLED = ("adamw", "lion")
MADE = {
    "sgd": "torch.optim.SGD(groups, lr=LR)",
    "momentum": "torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)",
    "nesterov": "torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, nesterov=True)",
    "adam": "torch.optim.Adam(groups, lr=LR, betas=(MOMENTUM, BETA2))",
    "adamw": "torch.optim.AdamW(groups, lr=LR, betas=(MOMENTUM, BETA2))",
    "nadam": "torch.optim.NAdam(groups, lr=LR, betas=(MOMENTUM, BETA2))",
    "rmsprop": "torch.optim.RMSprop(groups, lr=LR, alpha=BETA2, momentum=MOMENTUM)",
    "adagrad": "torch.optim.Adagrad(groups, lr=LR)",
    "lion": 'Lion(groups, {"lr": LR, "betas": (MOMENTUM, BETA2)})',
}
SCHEDULES = {
    "exponential": "    lr = LR * LR_DECAY**epoch",
    "step": "    lr = LR * LR_DECAY ** (epoch // LR_STEP)",
    "cosine": "    lr = LR * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))",
    "linear": "    lr = LR * (1 - epoch / EPOCHS)",
    "inverse-sqrt": "    lr = LR / math.sqrt(epoch + 1)",
    "constant": "    lr = LR",
    "sgdr": """\
    done, period = epoch, LR_PERIOD  # a cosine with restarts (Loshchilov & Hutter 2017)
    while done >= period:
        done, period = done - period, period * LR_PERIOD_FACTOR
    lr = LR * 0.5 * (1 + math.cos(math.pi * done / period))""",
    "one-cycle": """\
    # Up from LR / 25 over 30% of all updates, and down to next to 0 (Smith 2018), as torch's OneCycleLR.
    total, step = EPOCHS * num_updates, update - 1
    top = 0.3 * total - 1
    if step <= top:
        start, end, share = 1 / 25, 1.0, step / top
    else:
        start, end, share = 1.0, 1 / 25e4, (step - top) / (total - 1 - top)
    lr = LR * (end + (start - end) / 2 * (1 + math.cos(math.pi * share)))""",
}
METRICS = {
    "accuracy": "    return (logits.argmax(1) == y).double().mean().item()",
    "loss": "    return nn.functional.cross_entropy(logits, y).item()",
    "balanced_accuracy": """\
    hits = logits.argmax(1) == y
    return torch.stack([hits[y == label].double().mean() for label in y.unique()]).mean().item()""",
    "macro_f1": """\
    taken = logits.argmax(1)
    both = [(taken == label, y == label) for label in y.unique()]
    return torch.stack([2 * (a & b).sum().double() / (a.sum() + b.sum()) for a, b in both]).mean().item()""",
    "top5": "    return (logits.topk(min(5, logits.shape[1])).indices == y[:, None]).any(1).double().mean().item()",
    "auroc": """\
    areas, scores = [], logits.softmax(1)
    for label in y.unique():
        own, other = scores[y == label, label], scores[y != label, label].sort().values
        below = torch.searchsorted(other, own).double() + torch.searchsorted(other, own, right=True).double()
        areas.append(below.sum() / (2 * len(own) * len(other)))
    return torch.stack(areas).mean().item()""",
}
AUTOCAST = {"bfloat16": "torch.bfloat16", "float16": "torch.float16"}


def optimizer_part(config: StudyConfig, depths: list[list[str]] | None) -> Part:
    """Lines that make `optimizer`."""
    train = config.train
    decay = "WEIGHT_DECAY" if train.optimizer in DECOUPLED and train.weight_decay > 0 else ""
    if not penalty_terms(train) and train.reg > 0:
        decay = "REG"  # reg/2 * sum W^2 in the cost is reg * W in the gradient
    return part(
        "optimizer",
        name=train.optimizer,
        made=MADE[train.optimizer],
        depths=depths,
        has_body=train.body_lr != 1,
        has_layers=train.layer_decay != 1,
        decay=decay,
        penalized=bool(penalty_terms(train)),
    )


def penalty_terms(train: TrainConfig) -> list[str]:
    """What stands in the cost: all of it where the optimizer's own decay would be another thing.

    That is decoupled decay, and clipping, which torch's decay escapes as it comes later.
    """
    apart = train.l1 > 0 or train.clip_norm > 0 or train.optimizer in DECOUPLED
    terms = ["REG / 2 * sum((weight**2).sum() for weight in weights)"] if train.reg > 0 and apart else []
    return terms + (["L1 * sum(weight.abs().sum() for weight in weights)"] if train.l1 > 0 else [])


def loop_part(config: StudyConfig, depths: list[list[str]] | None, *, frozen: bool) -> Part:
    """Lines that train `net`, and print and save what came of it."""
    train = config.train
    metric = metric_of(train.metric)
    mix = mixing(config)
    penalty = penalty_terms(train)
    balanced, smoothing = train.class_weights == "balanced", train.label_smoothing > 0
    options = ", weight=class_weights" * balanced + ", label_smoothing=LABEL_SMOOTHING" * smoothing
    cross_entropy = f"nn.functional.cross_entropy(logits, y{options})"
    loss = "loss_of(logits, y)" if train.focal > 0 or mix is not None else cross_entropy
    if mix is not None:
        loss = "(share * loss_of(logits, y) + (1 - share) * loss_of(logits, other))"
    schedule = SCHEDULES[train.lr_schedule]
    imports = ["import copy", "import os", "import sys", "from torch import nn"]
    imports += ["import math"] if "math." in schedule else []
    given: dict[str, Any] = {
        "metric_code": _metric_code(metric.name),
        "metric_said": metric.label,
        "minimize": metric.direction == "minimize",
        "focal": train.focal > 0,
        "smoothing": smoothing,
        "balanced": balanced,
        "mix": mix is not None,
        "cross_entropy": cross_entropy,
        "loss": loss,
        "patience": train.patience is not None,
        "sampling": config.data.sampling,
        "schedule": schedule,
        "warmup": train.warmup > 0,
        "batch_size": train.batch_size,
        "accumulate": train.accumulate > 1,
        "ema": train.ema > 0,
        "measured": "averaged" if train.ema > 0 else "net",
        "float16": train.precision == "float16",
        "autocast": AUTOCAST.get(train.precision),
        "wide": "double()" if train.precision == "float64" else "float()",
        "frozen": frozen,
        "batch": "x, y, other, share" if mix is not None else "x, y",
        "penalized": bool(penalty),
        "penalty": " + ".join(penalty),
        "clip": train.clip_norm > 0,
        "depths": depths,
    }
    return part("loop", imports=imports, **given)


def _metric_code(name: str) -> str:
    if is_user_code(name):
        module, _, function = name.partition(":")
        body = f"    return float({function}(logits.softmax(1).cpu().numpy(), y.cpu().numpy()))"
        own = f'sys.path.insert(0, ".")  # run it where the code is\nfrom {module} import {function}\n\n\n'
    else:
        body, own = METRICS[name], ""
    return f'{own}def measure(logits, y):\n    """Of logits N,C and labels N."""\n{body}'
