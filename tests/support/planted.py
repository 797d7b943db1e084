"""A search with a known answer, planted in a storage without any training: fast, and as large as one likes."""

import math
import random

from hpsearch.analysis import attributes
from hpsearch.config import load_settings
from hpsearch.config.ranges import FloatRange
from hpsearch.results import EpochResult
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import STRUCTURE, NewTrial, Outcome, Queue, create_stage

PEAK = {"lr": 3e-2, "reg": 1e-3}  # where trials do best
EDGE = 0.3  # lr from which trials explode
VERSIONS = {"hpsearch": "0.1.0", "torch": "2.10"}


def plant(
    db,
    name="coarse",
    *,
    num_trials=60,
    epochs=4,
    lr=(1e-5, 1.0),
    reg=(1e-5, 1e2),
    source=None,
    reasons=None,
    seed=0,
    class_names=None,
    finish=True,
    first=None,
    **attrs,
):
    """Create a finished stage; a trial's accuracy falls with its distance from PEAK in decades.

    `first` are the hyperparameters of trial 0, if they shall not be drawn.
    """
    draw = random.Random(seed)
    kind = "fine" if source else "coarse"
    ranges = {"lr": FloatRange(*lr, log=True), "reg": FloatRange(*reg, log=True)}
    spaces = [f"{key}=log({low!r},{high!r})" for key, (low, high) in {"lr": lr, "reg": reg}.items()]
    config = load_settings(flags={f"{kind}.trials": num_trials, f"{kind}.epochs": epochs}, spaces=spaces).study
    assert plan_coarse(load_settings(spaces=spaces)).config.space.keys() == ranges.keys()
    provenance = [
        {"param": key, "old": None, "new": [range_.low, range_.high], "reason": (reasons or {}).get(key, "given")}
        for key, range_ in ranges.items()
    ]
    trials = [
        NewTrial(
            {key: math.exp(draw.uniform(math.log(r.low), math.log(r.high))) for key, r in ranges.items()},
            {STRUCTURE: "mlp"},
        )
        for _ in range(num_trials)
    ]
    if first:
        trials[0] = NewTrial(first, {STRUCTURE: "mlp"})
    dataset = {"shape": [1, 8, 8], "classes": 10, "fingerprint": "f" * 16}
    stage_attrs = {
        attributes.STAGE: kind,
        attributes.CONFIG: config.plain(),
        attributes.PROVENANCE: {"from": source, "ranges": provenance},
        attributes.DATASET: {**dataset, "class_names": class_names} if class_names else dataset,
        attributes.VERSIONS: VERSIONS,
        **attrs,
    }
    study = create_stage(db, name, "maximize", stage_attrs, ranges, trials)
    if finish:
        _finish(db, study, epochs, draw)
    return study


def _finish(db, study, epochs, draw):
    queue = Queue(db, study, "planter", lease_seconds=600.0)
    leases = queue.take(10_000)
    curves = {lease.number: _curve(lease, epochs, draw) for lease in leases}
    for epoch in range(epochs):
        queue.record([(lease, curves[lease.number][epoch]) for lease in leases if epoch < len(curves[lease.number])])
    queue.finish([_outcome(lease, curves[lease.number]) for lease in leases])


def _curve(lease, epochs, draw):
    lr, reg = lease.params["lr"], lease.params["reg"]
    if lr > EDGE:
        return []
    far = 0.35 * math.log10(lr / PEAK["lr"]) ** 2 + 0.05 * math.log10(reg / PEAK["reg"]) ** 2
    top = 0.1 + 0.85 * math.exp(-far)
    gap = 0.12 / (1 + (reg / 1e-4)) * (top - 0.1)
    found = []
    for epoch in range(1, epochs + 1):
        grown = 1 - math.exp(-1.6 * epoch * max(top, 0.05))
        val = round(1000 * min(1.0, max(0.0, 0.1 + (top - 0.1) * grown + draw.gauss(0, 0.008)))) / 1000
        train = min(1.0, val + gap * grown)
        loss = 2.303 * (1 - 0.95 * (val - 0.1) / 0.9)
        train_loss = 2.303 * (1 - 0.97 * (train - 0.1) / 0.9)
        ratio = 0.03 * lr / (1 + reg) * draw.uniform(0.7, 1.4)
        found.append(
            EpochResult(lease.number, epoch, loss, train_loss, train, loss, val, ratio, lr * 0.95 ** (epoch - 1))
        )
    return found


def _outcome(lease, curve):
    if not curve:
        attrs = {attributes.REASON: attributes.EXPLODED, attributes.EPOCH: 1, attributes.STEP: 3}
        return Outcome(lease, "PRUNED", attrs=attrs)
    best = max(curve, key=lambda epoch: epoch.val_acc)
    return Outcome(lease, "COMPLETE", best.val_acc, {attributes.BEST_EPOCH: best.epoch})
