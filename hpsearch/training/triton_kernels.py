"""One update of a block of weights for all trials in a single pass through memory, compiled by Triton.

A program takes BLOCK numbers of one trial: the grid is (blocks of P numbers, K). What is by trial comes as vectors of
shape [K], which stay on the device. Where `frozen` is not zero, nothing of the trial is read or written. What an
update has no use for is None and leaves no trace in its machine code.

Shapes: K = trials in the pack, P = numbers of one trial, N = blocks of them.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

jit: Any = triton.jit  # whose own type says nothing about the kernels


@jit
def sgd(
    weight, velocity, gradient, rounded, partial, frozen, lr, momentum, reg, l1,
    P, NESTEROV: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`optimizers.Momentum`, or SGD where `velocity` is None.

    Args:
        weight: of shape [K, P], as is all that follows but where it is said.
        velocity: its average, or None.
        gradient: of the data loss, in any precision.
        rounded: becomes the bits of the new weight in bfloat16; or None.
        partial: of shape [K, N], becomes the sums of the new weights' squares by block; or None.
        frozen: bytes, of shape [K].
        lr: of shape [K].
        momentum: of shape [K], or None.
        reg: of shape [K], or None: no trial has any.
        l1: of shape [K], or None.
        P: how many numbers a trial has.
        NESTEROV: whether to look ahead.
        BLOCK: how many numbers are a program's, a power of two.
    """
    trial = tl.program_id(1).to(tl.int64)
    place = _place(trial, P, BLOCK)
    lanes = tl.arange(0, BLOCK)
    mask = _mask(lanes, frozen, trial, P, BLOCK)
    old = tl.load(weight + place + lanes, mask=mask, other=0.0)
    step = tl.load(gradient + place + lanes, mask=mask, other=0.0).to(old.dtype)
    step = _regularized(step, old, reg, l1, trial)
    if velocity is not None:
        mu = tl.load(momentum + trial)
        average = step + mu * tl.load(velocity + place + lanes, mask=mask, other=0.0)
        tl.store(velocity + place + lanes, average, mask=mask)
        step = step + mu * average if NESTEROV else average
    new = old - tl.load(lr + trial) * step
    _leave(new, weight, rounded, partial, frozen, trial, place, lanes, mask)


@jit
def adam(
    weight, average, square, gradient, rounded, partial, frozen,
    lr, gain1, gain2, eps, reg, l1, decay, P, BLOCK: tl.constexpr,
):  # fmt: skip
    """`optimizers.Adam`, the averages' corrections in `lr` and `eps`; otherwise as `sgd`.

    Args:
        weight: see `sgd`.
        average: of the gradients.
        square: of their squares.
        gradient: see `sgd`.
        rounded: see `sgd`.
        partial: see `sgd`.
        frozen: see `sgd`.
        lr: see `sgd`.
        gain1: 1 - beta1, of shape [K].
        gain2: 1 - beta2, of shape [K].
        eps: of shape [K].
        reg: see `sgd`.
        l1: see `sgd`.
        decay: the part of the weight that goes, decoupled from the gradient, of shape [K]; or None.
        P: see `sgd`.
        BLOCK: see `sgd`.
    """
    trial = tl.program_id(1).to(tl.int64)
    place = _place(trial, P, BLOCK)
    lanes = tl.arange(0, BLOCK)
    mask = _mask(lanes, frozen, trial, P, BLOCK)
    old = tl.load(weight + place + lanes, mask=mask, other=0.0)
    step = tl.load(gradient + place + lanes, mask=mask, other=0.0).to(old.dtype)
    step = _regularized(step, old, reg, l1, trial)
    first = _between(tl.load(average + place + lanes, mask=mask, other=0.0), step, tl.load(gain1 + trial))
    second = _between(tl.load(square + place + lanes, mask=mask, other=0.0), step * step, tl.load(gain2 + trial))
    tl.store(average + place + lanes, first, mask=mask)
    tl.store(square + place + lanes, second, mask=mask)
    if old.dtype == tl.float32:  # whose usual root and quotient are approximations here
        ratio = tl.div_rn(first, tl.sqrt_rn(second) + tl.load(eps + trial))
    else:
        ratio = first / (tl.sqrt(second) + tl.load(eps + trial))
    if decay is not None:
        old = old - tl.load(decay + trial) * old
    new = old - tl.load(lr + trial) * ratio
    _leave(new, weight, rounded, partial, frozen, trial, place, lanes, mask)


@jit
def squares(weight, partial, P, BLOCK: tl.constexpr):
    """What an update leaves in `partial` that ends with this weight.

    Args:
        weight: see `sgd`.
        partial: see `sgd`.
        P: see `sgd`.
        BLOCK: see `sgd`.
    """
    trial = tl.program_id(1).to(tl.int64)
    place = _place(trial, P, BLOCK)
    lanes = tl.arange(0, BLOCK)
    mask = lanes < P - tl.program_id(0).to(tl.int64) * BLOCK
    numbers = tl.load(weight + place + lanes, mask=mask, other=0.0)
    tl.store(partial + trial * tl.num_programs(0) + tl.program_id(0), _sum_of_squares(numbers))


@jit
def _place(trial, P, BLOCK: tl.constexpr):
    """Where the program's numbers begin; K * P may be beyond 32 bits."""
    return trial * P + tl.program_id(0).to(tl.int64) * BLOCK


@jit
def _mask(lanes, frozen, trial, P, BLOCK: tl.constexpr):
    """Which of the program's numbers there are and are to change."""
    return (lanes < P - tl.program_id(0).to(tl.int64) * BLOCK) & (tl.load(frozen + trial) == 0)


@jit
def _regularized(step, old, reg, l1, trial):
    """As `Penalty.add_gradients`."""
    if reg is not None:
        step = step + tl.load(reg + trial) * old
    if l1 is not None:
        step = step + tl.load(l1 + trial) * ((old > 0).to(old.dtype) - (old < 0).to(old.dtype))
    return step


@jit
def _between(start, end, gain):
    """As `torch.lerp`, which is exact at both ends: a beta of 0 is a gain of 1."""
    return tl.where(gain < 0.5, start + gain * (end - start), end - (1 - gain) * (end - start))


@jit
def _leave(
    new,
    weight,
    rounded,
    partial,
    frozen,
    trial,
    place,
    lanes,
    mask,
):
    """Write down the new weights and what is made of them."""
    tl.store(weight + place + lanes, new, mask=mask)
    if rounded is not None:
        tl.store(rounded + place + lanes, _narrowed(new), mask=mask)
    if partial is not None:
        numbers = tl.where(mask, new, 0.0)
        own = partial + trial * tl.num_programs(0) + tl.program_id(0)
        tl.store(own, _sum_of_squares(numbers), mask=tl.load(frozen + trial) == 0)


@jit
def _narrowed(numbers):
    """The bits of the nearest bfloat16, of two the even one, by way of float32 as in PyTorch.

    Triton's own conversion does it, too, on a device; its interpreter, which tests without one need, cuts off.
    """
    bits = numbers.to(tl.float32).to(tl.uint32, bitcast=True)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(numbers == numbers, nearest, 0x7FC0).to(tl.uint16)


@jit
def _sum_of_squares(numbers):
    return tl.reduce(numbers * numbers, 0, _plus)


@jit
def _plus(a, b):
    return a + b
