"""A convolution of K trials with what follows it as one product of their patches and filters, compiled by Triton.

A program takes ROWS places of an output of one trial and COLUMNS of its channels, and loads what it multiplies from
where it lies: patches are written nowhere, nor are outputs that a pool takes in. Neighbouring programs are different
trials at the same place: in channels-last memory their numbers are neighbours, and the images of a first layer are the
same. No sum depends on K or on the order in which programs run.

Shapes: K = trials in the pack, B = batch, I, O = channels in and out, M = K * O, H, W = height and width (of a filter
where I is there, too), R = numbers of a filter, S = programs that share the places of one trial. Activations are
a_BHWM: channels-last memory. "Convolved" is what a pool takes in, or all there is without one.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

jit: Any = triton.jit(do_not_specialize=["num_rows", "num_trials", "pixel_in", "step_in", "span"])

# By the interpreter, which tests without a device need.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


ONES = tl.constexpr(16)  # columns of the smallest tile of a product


@jit
def forward(
    a, weight, bias, output, places, num_rows, num_trials, pixel_in, step_in,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    POOL: tl.constexpr, ACTIVATION: tl.constexpr, NARROW: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Convolution, bias, maximum of each 2 x 2, activation.

    The grid is (K * blocks of rows, blocks of columns).

    Args:
        a: of shape [B, H, W, pixel_in].
        weight: of shape [K, O, I, H, W] of a filter, in a's precision.
        bias: of shape [K, O]; or None.
        output: of shape [B, OUT_H, OUT_W, M], after the pool; the bits of bfloat16 with NARROW.
        places: bytes of the output's shape, become where in its window each maximum was: 0 to 3 by rows; or None.
        num_rows: B * OUT_H * OUT_W.
        num_trials: K.
        pixel_in: numbers of a pixel of `a`.
        step_in: how far the channels of the next trial are; 0: all have the same.
        INPUTS: I.
        OUTPUTS: O.
        H: of `a`.
        W: of `a`.
        OUT_H: of the output.
        OUT_W: of the output.
        KERNEL_H: height of a filter.
        KERNEL_W: width of a filter.
        STRIDE_H: as in `nn.Conv2d`, as are all up to DILATION_W.
        STRIDE_W: see there.
        PAD_H: see there.
        PAD_W: see there.
        DILATION_H: see there.
        DILATION_W: see there.
        POOL: whether there is a pool.
        ACTIVATION: "none", "relu", "tanh" or "sigmoid".
        NARROW: whether each step's outcome is rounded to bfloat16, as operators round it.
        PRECISION: of products of float32: "ieee" or "tf32".
        SUMS: the type in which products are added up.
        ROWS: places of a program, a power of two, as are those that follow.
        COLUMNS: channels of a program.
        DEPTH: numbers of a patch that are multiplied at a time.
    """
    trial = tl.program_id(0) % num_trials
    rows = (tl.program_id(0) // num_trials) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = rows < num_rows
    image, y, x = rows // (OUT_H * OUT_W), rows // OUT_W % OUT_H, rows % OUT_W
    a += trial * step_in
    weight += trial.to(tl.int64) * (OUTPUTS * INPUTS * KERNEL_H * KERNEL_W)
    shift = tl.full((COLUMNS,), 0.0, SUMS)
    if bias is not None:
        shift = tl.load(bias + trial * OUTPUTS + columns, mask=columns < OUTPUTS, other=0.0).to(SUMS)
    best = tl.full((ROWS, COLUMNS), float("-inf"), SUMS)
    place = tl.full((ROWS, COLUMNS), 0, tl.int32)
    for window in range(4 if POOL else 1):
        row = (2 * y + window // 2 if POOL else y) * STRIDE_H - PAD_H
        column = (2 * x + window % 2 if POOL else x) * STRIDE_W - PAD_W
        z = tl.full((ROWS, COLUMNS), 0.0, SUMS)
        for start in range(0, KERNEL_H * KERNEL_W * INPUTS, DEPTH):
            depth = start + tl.arange(0, DEPTH)
            patches = _patches(
                a, image, row, column, there, depth, pixel_in,
                INPUTS, H, W, KERNEL_H, KERNEL_W, DILATION_H, DILATION_W,
            )  # fmt: skip
            own = (depth % INPUTS) * (KERNEL_H * KERNEL_W) + depth // INPUTS
            inside = (depth < KERNEL_H * KERNEL_W * INPUTS)[:, None] & (columns < OUTPUTS)[None, :]
            filters = tl.load(
                weight + columns[None, :] * (INPUTS * KERNEL_H * KERNEL_W) + own[:, None], mask=inside, other=0.0
            )
            z = _product(patches, filters, z, PRECISION)
        z += shift[None, :]
        if NARROW:
            z = _rounded(z)
        larger = (z > best) | (z != z)  # the first of several that are the same; what is no number passes on
        best = tl.where(larger, z, best)
        place = tl.where(larger, window, place)
    best = _activated(best, ACTIVATION)
    target = rows.to(tl.int64)[:, None] * (num_trials * OUTPUTS) + (trial * OUTPUTS + columns)[None, :]
    mask = there[:, None] & (columns < OUTPUTS)[None, :]
    if NARROW:
        tl.store(output + target, (_rounded(best).to(tl.uint32, bitcast=True) >> 16).to(tl.uint16), mask=mask)
    else:
        tl.store(output + target, best, mask=mask)
    if places is not None:
        tl.store(places + target, place.to(tl.uint8), mask=mask)


@jit
def weight_gradient(
    a, delta, places, partial, partial_bias, num_rows, num_trials, pixel_in, step_in, span,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    POOL: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """What each program's places add to the derivatives by filters and biases; their sum is the gradient.

    The grid is (K * S, blocks of columns, blocks of depth). Parameters that are not named are those of `forward`.

    Args:
        a: see `forward`.
        delta: derivative by what the activation took in, of shape [B, OUT_H, OUT_W, M].
        places: as `forward` left them; None without a pool.
        partial: of shape [S, K, O, I, H, W] of a filter, is filled.
        partial_bias: of shape [S, K, O], is filled; or None.
        num_rows: see `forward`.
        num_trials: see `forward`.
        pixel_in: see `forward`.
        step_in: see `forward`.
        span: places of a program, a multiple of ROWS.
    """
    trial = tl.program_id(0) % num_trials
    share = tl.program_id(0) // num_trials
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.program_id(2) * DEPTH + tl.arange(0, DEPTH)
    a += trial * step_in
    found = tl.full((COLUMNS, DEPTH), 0.0, SUMS)
    found_bias = tl.full((COLUMNS, ONES), 0.0, SUMS)
    for start in range(0, span, ROWS):
        rows = share * span + start + tl.arange(0, ROWS)
        there = rows < num_rows
        image, y, x = rows // (OUT_H * OUT_W), rows // OUT_W % OUT_H, rows % OUT_W
        source = rows.to(tl.int64)[None, :] * (num_trials * OUTPUTS) + (trial * OUTPUTS + columns)[:, None]
        mask = there[None, :] & (columns < OUTPUTS)[:, None]
        back = tl.load(delta + source, mask=mask, other=0.0)
        if partial_bias is not None:
            ones = tl.full((ROWS, ONES), 1.0, tl.float32).to(back.dtype)
            found_bias = _product(back, ones, found_bias, PRECISION)
        if POOL:
            place = tl.load(places + source, mask=mask, other=0).to(tl.int32)
            nothing = tl.full((COLUMNS, ROWS), 0.0, tl.float32).to(back.dtype)
        for window in range(4 if POOL else 1):
            row = (2 * y + window // 2 if POOL else y) * STRIDE_H - PAD_H
            column = (2 * x + window % 2 if POOL else x) * STRIDE_W - PAD_W
            part = back
            if POOL:
                part = tl.where(place == window, back, nothing)
            patches = _patches(
                a, image, row, column, there, depth, pixel_in,
                INPUTS, H, W, KERNEL_H, KERNEL_W, DILATION_H, DILATION_W,
            )  # fmt: skip
            found = _product(part, patches, found, PRECISION)
    own = (depth % INPUTS) * (KERNEL_H * KERNEL_W) + depth // INPUTS
    line = (share * num_trials + trial).to(tl.int64) * OUTPUTS + columns
    inside = (columns < OUTPUTS)[:, None] & (depth < KERNEL_H * KERNEL_W * INPUTS)[None, :]
    tl.store(partial + line[:, None] * (INPUTS * KERNEL_H * KERNEL_W) + own[None, :], found, mask=inside)
    if partial_bias is not None:
        first = (tl.arange(0, ONES) == 0)[None, :] & (columns < OUTPUTS)[:, None] & (tl.program_id(2) == 0)
        tl.store(partial_bias + line[:, None] + tl.arange(0, ONES)[None, :], found_bias, mask=first)


@jit
def input_gradient(
    delta, places, weight, back, num_rows, num_trials,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    POOL: tl.constexpr, NARROW: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The derivative by the input, each pixel's own: what its windows in all filters hand down is multiplied.

    The grid is (K * blocks of rows, blocks of columns); rows are pixels of the input, columns its channels. Parameters
    that are not named are those of `forward`.

    Args:
        delta: see `weight_gradient`.
        places: see `weight_gradient`.
        weight: see `forward`.
        back: of shape [B, H, W, K * I], is filled; the bits of bfloat16 with NARROW.
        num_rows: B * H * W.
        num_trials: see `forward`.
    """
    trial = tl.program_id(0) % num_trials
    rows = (tl.program_id(0) // num_trials) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = rows < num_rows
    image, row, column = (rows // (H * W)).to(tl.int64), rows // W % H + PAD_H, rows % W + PAD_W
    weight += trial.to(tl.int64) * (OUTPUTS * INPUTS * KERNEL_H * KERNEL_W)
    found = tl.full((ROWS, COLUMNS), 0.0, SUMS)
    for start in range(0, KERNEL_H * KERNEL_W * OUTPUTS, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        in_filter, channel = depth // OUTPUTS, depth % OUTPUTS
        known = depth < KERNEL_H * KERNEL_W * OUTPUTS
        y = row[:, None] - (in_filter // KERNEL_W * DILATION_H)[None, :]
        x = column[:, None] - (in_filter % KERNEL_W * DILATION_W)[None, :]
        mask = there[:, None] & known[None, :] & (y >= 0) & (x >= 0) & (y % STRIDE_H == 0) & (x % STRIDE_W == 0)
        y, x = y // STRIDE_H, x // STRIDE_W  # of what was convolved
        window = y % 2 * 2 + x % 2
        if POOL:
            y, x = y // 2, x // 2
        mask &= (y < OUT_H) & (x < OUT_W)
        pixel = (image[:, None] * OUT_H + y) * OUT_W + x
        source = pixel * (num_trials * OUTPUTS) + (trial * OUTPUTS + channel)[None, :]
        part = tl.load(delta + source, mask=mask, other=0.0)
        if POOL:
            place = tl.load(places + source, mask=mask, other=0).to(tl.int32)
            part = tl.where(place == window, part, tl.full((ROWS, DEPTH), 0.0, tl.float32).to(part.dtype))
        own = channel[:, None] * INPUTS + columns[None, :]
        inside = known[:, None] & (columns < INPUTS)[None, :]
        filters = tl.load(weight + own * (KERNEL_H * KERNEL_W) + in_filter[:, None], mask=inside, other=0.0)
        found = _product(part, filters, found, PRECISION)
    target = rows.to(tl.int64)[:, None] * (num_trials * INPUTS) + (trial * INPUTS + columns)[None, :]
    mask = there[:, None] & (columns < INPUTS)[None, :]
    if NARROW:
        tl.store(back + target, (_rounded(found).to(tl.uint32, bitcast=True) >> 16).to(tl.uint16), mask=mask)
    else:
        tl.store(back + target, found, mask=mask)


@triton.jit
def _patches(
    a, image, row, column, there, depth, pixel_in,
    INPUTS: tl.constexpr, H: tl.constexpr, W: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
):  # fmt: skip
    """[ROWS, DEPTH] numbers of the windows that begin there; channels run fastest in `depth`, as in memory."""
    in_filter = depth // INPUTS
    y = row[:, None] + (in_filter // KERNEL_W * DILATION_H)[None, :]
    x = column[:, None] + (in_filter % KERNEL_W * DILATION_W)[None, :]
    mask = there[:, None] & (depth < KERNEL_H * KERNEL_W * INPUTS)[None, :] & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    pixel = (image.to(tl.int64)[:, None] * H + y) * W + x
    return tl.load(a + pixel * pixel_in + (depth % INPUTS)[None, :], mask=mask, other=0.0)


@triton.jit
def _product(one, other, added, PRECISION: tl.constexpr):
    if INTERPRETED:  # it would multiply the bits of bfloat16, and adds up no other way in good time
        one, other = one.to(added.dtype), other.to(added.dtype)
    elif added.dtype == tl.float64:  # for which tl.dot does not always compile (Triton 3.8)
        return added + tl.sum(one[:, :, None] * other[None, :, :], 1)
    return tl.dot(one, other, added, input_precision=PRECISION)


@triton.jit
def _rounded(numbers):
    """To the nearest bfloat16, of two the even one, still in float32: see `triton_kernels._narrowed`."""
    bits = numbers.to(tl.uint32, bitcast=True)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return tl.where(numbers == numbers, nearest, 0x7FC00000).to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def _activated(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        z = tl.where(z <= 0, 0.0, z)
    elif ACTIVATION == "sigmoid":
        z = 1 / (1 + tl.exp(-z))
    elif ACTIVATION == "tanh":
        # Near 0 by Lambert's continued fraction, exact to the last digits of float64, where 1 - 1 would leave none.
        square = z * z
        fraction = 13 + square / 15
        for odd in tl.static_range(6):
            fraction = (11 - 2 * odd) + square / fraction
        far = 1 - 2 / (tl.exp(2 * tl.abs(z)) + 1)
        z = tl.where(tl.abs(z) < 0.5, z / fraction, tl.where(z < 0, -far, far))
    return z
