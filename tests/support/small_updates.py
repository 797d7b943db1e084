"""A few weights of a few trials, and updates of them."""

import dataclasses

import torch

from hpsearch.training.cost import Penalty
from hpsearch.training.optimizers import make_optimizer
from hpsearch.training.updater import Updated
from hpsearch.training.vectors import Vectors

OPTIMIZERS = ["sgd", "momentum", "nesterov", "adam", "adamw"]
# Of numbers about one. Sums of three products are rounded as one or one by one.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 8 * torch.finfo(torch.float32).eps}
SIZES = {"weight": (3, 11), "bias": (5,)}  # one more than a block of the interpreted kernels


def make_vectors(num_trials, **given):
    """Different for each trial."""
    values = {field.name: 0.0 for field in dataclasses.fields(Vectors)}
    values |= {"lr": 0.01, "momentum": 0.9, "beta2": 0.99, "reg": 0.1, "l1": 0.01, "weight_decay": 0.2} | given
    factors = torch.linspace(1, 0.5, num_trials, dtype=torch.float64)
    return Vectors(**{name: value * factors for name, value in values.items()})


def make_updated(optimizer, num_trials=3, sizes=SIZES, dtype=torch.float64, device="cpu", **given):
    generator = torch.Generator().manual_seed(7)
    blocks = {
        name: torch.randn(num_trials, *size, generator=generator, dtype=torch.float64).to(device, dtype)
        for name, size in sizes.items()
    }
    vectors, weights = make_vectors(num_trials, **given), frozenset({"weight"})
    lr_K = vectors.lr.to(device, dtype)
    return Updated(
        blocks=blocks,
        weights=weights,
        optimizer=make_optimizer(optimizer, blocks, weights, vectors),
        rule=optimizer,
        penalty=Penalty.of(vectors, lr_K),
        vectors=vectors,
        lr=lr_K,
        num_updates=torch.zeros(num_trials, dtype=torch.int64, device=device),
    )


def make_gradients(updated, step):
    generator = torch.Generator().manual_seed(step)
    return {
        name: torch.randn(block.shape, generator=generator, dtype=torch.float64).to(block)
        for name, block in updated.blocks.items()
    }


def everything(updated):
    return [*updated.blocks.values(), *(t for stacked in updated.optimizer.state.values() for t in stacked.values())]


def run(updater_class, updated, num_steps, frozen=lambda step: None, rounded=None):
    """As a pack does it: who is frozen makes no update, and its gradients are of no use."""
    updater = updater_class(updated)
    for step in range(num_steps):
        frozen_K = frozen(step)
        gradients = make_gradients(updated, step)
        updated.num_updates.add_(1 if frozen_K is None else ~frozen_K)
        if frozen_K is not None:
            for index, gradient in enumerate(gradients.values()):
                gradient[frozen_K] = (torch.nan, torch.inf)[index % 2]
        updater.update(gradients, frozen_K, rounded)
    return updater


def assert_alike(found, expected):
    for one, other in zip(found, expected, strict=True):
        tolerance = TOLERANCES[other.dtype]
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
