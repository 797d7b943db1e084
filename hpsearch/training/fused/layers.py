"""The layers of a fully connected net, forward and backward by hand for K trials at once.

Shapes: K = trials in the pack, B = batch, I, O = inputs and outputs of a layer (D = inputs of the first), M = K * O,
H, W = height and width.

Outputs are a_KOB, with the batch last: then the first layer of all trials is one product with W_MD, its weight
gradient another one, delta_MB @ x_BD, and each reduction over the batch is over contiguous numbers. Convolutions put
out a_BMHW (`convolutions`). A layer keeps what its backward pass needs until the next forward pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from hpsearch.errors import EngineError
from hpsearch.training.fused.update import LONG
from hpsearch.training.layout import Stacked
from hpsearch.training.state import PackState

aten = torch.ops.aten
LINE = 32  # bfloat16 in 64 bytes
TILE = 32  # images that a product in bfloat16 takes at a time: 128 of them take less than 100 (AMX, docs/log.md)


class Layer(ABC):
    """One layer of K nets. Its input is a_KIB or a_BMHW, or x_BD or x_BCHW where all trials see the same.

    Args:
        state: of the pack.
        name: of the layer in the net.
        trials: those that it is for, if not for all.
    """

    def __init__(self, state: PackState, name: str, trials: slice = slice(None)) -> None:
        self._state = state
        self._name = name
        self._trials = trials

    @abstractmethod
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        """The output. In training mode buffers that change go into `buffers`; None: evaluation mode."""

    @abstractmethod
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        """The cost's derivative by the input, from that by the output; those by parameters go into `gradients`.

        `delta` may be used up.
        """

    def take(self, delta: Tensor, gradients: Stacked) -> None:
        """Go back as far as the own parameters: the first layer that has any needs no more."""
        self.backward(delta, gradients)

    @property
    def _num_trials(self) -> int:
        return len(range(self._state.num_trials)[self._trials])

    def _parameter(self, name: str) -> Tensor | None:
        parameter = self._state.nets.parameters.get(f"{self._name}.{name}")
        return None if parameter is None else parameter[self._trials]


class Linear(Layer):
    """nn.Linear. The gradient of its weight is left for later: `weight_gradient` writes it where it is used up.

    With `follows`, whoever changes the weight changes `rounded` with it.
    """

    def __init__(self, state: PackState, name: str, *, bfloat16: bool, follows: bool) -> None:
        super().__init__(state, name)
        self._bfloat16, self._follows = bfloat16, follows
        self._work: dict[tuple[str, int, int], Tensor] = {}
        self._rounded: Tensor | None = None
        self._input = self._delta = torch.empty(0)

    @property
    def weight_name(self) -> str:
        """As the state has it."""
        return f"{self._name}.weight"

    @property
    def weight(self) -> Tensor:
        """weight_KOI."""
        return self._state.nets.parameters[self.weight_name]

    @property
    def rounded(self) -> Tensor | None:
        """The weight in bfloat16, if the products are: as the last update left it behind, else rounded now."""
        if not self._bfloat16:
            return None
        if self._state.nets.shows_averages:  # nobody trains with them
            return self.weight.bfloat16()
        if self._rounded is None:
            self._rounded = self.weight.bfloat16()
        elif not self._follows:
            self._rounded.copy_(self.weight)
        return self._rounded

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        self._begin_pass(training=buffers is not None)
        weight_KOI, bias_KO = self._used_weight, self._parameter("bias")
        bias_KO1 = None if bias_KO is None else bias_KO.unsqueeze(2)
        if a.ndim == 2:
            z_KOB = self._shared(a, weight_KOI, training=buffers is not None)
            if bias_KO1 is not None:
                z_KOB += bias_KO1
        else:
            self._input = a
            z_KOB = torch.bmm(weight_KOI, a) if bias_KO1 is None else torch.baddbmm(bias_KO1, weight_KOI, a)
        return z_KOB

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        self.take(delta, gradients)
        return torch.bmm(self._used_weight.transpose(1, 2), delta)

    @override
    def take(self, delta: Tensor, gradients: Stacked) -> None:
        self._delta = delta
        if self._parameter("bias") is not None:
            gradients[f"{self._name}.bias"] = delta.sum(2)

    def weight_gradient(self) -> Tensor:
        """gradient_KOI of the last backward pass, valid until the next one; bfloat16 where the product was."""
        delta_KOB, a = self._delta, self._input
        if a.ndim == 3:
            return torch.bmm(delta_KOB, a.transpose(1, 2))
        delta_MB, num_inputs = delta_KOB.flatten(0, 1), a.shape[1]
        if self._bfloat16:
            delta_MB = self._padded("delta", delta_MB, (len(delta_MB), len(a)))
            length = odd_lines(num_inputs) if a.device.type == "cpu" else num_inputs
            work_MD = self._take_work("gradient", (len(delta_MB), length), a)[:, :num_inputs]
        else:
            work_MD = self._take_work("gradient", (len(delta_MB), num_inputs), a)
        return torch.mm(delta_MB, a, out=work_MD).view_as(self.weight)

    @property
    def _used_weight(self) -> Tensor:
        """That of the pass that has begun."""
        return self.weight

    def _begin_pass(self, *, training: bool) -> None:
        """Before the layer looks at its input."""

    def _shared(self, x_BD: Tensor, weight_KOI: Tensor, *, training: bool) -> Tensor:
        num_trials, num_outputs, num_inputs = weight_KOI.shape
        num_images, num_rows = len(x_BD), num_trials * num_outputs
        if not self._bfloat16:
            # On a CPU and in float32, this product and a small transposed copy take 2-8% less than W @ x.T (MKL).
            self._input, weight_MD = x_BD, weight_KOI.flatten(0, 1)
            work = self._take_work("output", (num_images, num_rows), x_BD) if training else None
            z_MB = torch.mm(x_BD, weight_MD.T, out=work).T.contiguous()
        else:
            weight_MD = cast(Tensor, self.rounded).flatten(0, 1)
            if training:
                padded = -(-num_images // TILE) * TILE
                self._input = self._padded("input", x_BD, (padded, num_inputs))
                work = self._take_work("output", (num_rows, padded), self._input)
                z_MB = torch.mm(weight_MD, self._input.T, out=work)[:, :num_images].to(x_BD.dtype)
            else:
                z_MB = torch.mm(weight_MD, x_BD.bfloat16().T).to(x_BD.dtype)
        return z_MB.view(num_trials, num_outputs, -1)

    def _padded(self, name: str, t: Tensor, shape: tuple[int, int]) -> Tensor:
        """In bfloat16, with zeros behind it."""
        padded = self._take_work(f"{name} of {tuple(t.shape)}", shape, t, torch.bfloat16)
        padded[: t.shape[0], : t.shape[1]].copy_(t)
        return padded

    def _take_work(self, name: str, shape: tuple[int, int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Memory that stays, at first zeros: fresh megabytes in every step cost time, and a graph needs its own."""
        key = (name, *shape)
        if key not in self._work:
            self._work[key] = like.new_zeros(shape, dtype=dtype)
        return self._work[key]


def odd_lines(num: int) -> int:
    """At least as many bfloat16 as `num`, in an odd number of cache lines if they are a long row.

    Rows of 3,072 are 96 lines, so that 16 of them, a tile of a product, meet in two of the 64 sets of a first-level
    cache: a gradient of 1,250 such rows takes 0.95 ms to write, of 97 lines each 0.74.
    """
    return num if num < LONG else (-(-num // LINE) | 1) * LINE


class Activation(Layer):
    """ReLU, leaky ReLU, ELU, tanh, sigmoid, GELU or SiLU, by PyTorch's own kernels."""

    def __init__(self, state: PackState, name: str, trials: slice, layer: nn.Module) -> None:
        super().__init__(state, name, trials)
        self.kind = type(layer)
        self._forward, self._backward, self._of_output = ACTIVATIONS[self.kind]
        self._kept = torch.empty(0)

    @property
    def grows(self) -> bool:
        """Whether a larger input never has a smaller output: the same functions that their output tells apart."""
        return self._of_output

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        output = self._forward(a)
        self._kept = output if self._of_output else a
        return output

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        return self._backward(delta, self._kept)


SLOPE = 0.01  # of a leaky ReLU below 0
Function = Callable[[Tensor], Tensor]
Derivative = Callable[[Tensor, Tensor], Tensor]
# With the derivative, and whether it is told by the output rather than the input.
ACTIVATIONS: dict[type[nn.Module], tuple[Function, Derivative, bool]] = {
    nn.ReLU: (torch.relu_, lambda delta, a: cast(Tensor, aten.threshold_backward(delta, a, 0)), True),
    nn.Tanh: (torch.tanh_, lambda delta, a: cast(Tensor, aten.tanh_backward(delta, a)), True),
    nn.Sigmoid: (torch.sigmoid_, lambda delta, a: cast(Tensor, aten.sigmoid_backward(delta, a)), True),
    nn.LeakyReLU: (
        lambda z: functional.leaky_relu_(z, SLOPE),
        lambda delta, a: cast(Tensor, aten.leaky_relu_backward(delta, a, SLOPE, True)),
        True,
    ),
    nn.ELU: (functional.elu_, lambda delta, a: cast(Tensor, aten.elu_backward(delta, 1.0, 1.0, 1.0, True, a)), True),
    nn.GELU: (functional.gelu, lambda delta, z: cast(Tensor, aten.gelu_backward(delta, z)), False),
    nn.SiLU: (functional.silu, lambda delta, z: cast(Tensor, aten.silu_backward(delta, z)), False),
}
SETTINGS = {"approximate": "none", "negative_slope": SLOPE, "alpha": 1.0}
"""Of PyTorch's layers, those for which these functions are."""


class BatchNorm(Layer):
    """nn.BatchNorm1d and nn.BatchNorm2d: to their kernel all trials' outputs are the channels of one layer."""

    def __init__(self, state: PackState, name: str, trials: slice, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__(state, name, trials)
        if layer.momentum is None or not layer.affine or not layer.track_running_stats:
            raise EngineError(f"{name} is a batch normalization without momentum, weight or statistics.")
        self._momentum, self._eps = layer.momentum, layer.eps
        self._kept: tuple[Tensor, ...] = ()

    @override
    def forward(self, a: Tensor, buffers: Stacked | None) -> Tensor:
        z = a if a.ndim == 4 else a.reshape(1, -1, a.shape[2])  # z_BMHW or z_1MB
        scale_M, shift_M = (cast(Tensor, self._parameter(key)).flatten() for key in ("weight", "bias"))
        mean_KO, var_KO = (self._buffer(key) for key in ("running_mean", "running_var"))
        if buffers is None:
            found = functional.batch_norm(z, mean_KO.flatten(), var_KO.flatten(), scale_M, shift_M, eps=self._eps)
            return found.view_as(a)
        mean_KO, var_KO = mean_KO.clone(), var_KO.clone()
        output, mean_M, invstd_M = torch.native_batch_norm(
            z, scale_M, shift_M, mean_KO.view(-1), var_KO.view(-1), True, self._momentum, self._eps
        )
        self._kept = (z, scale_M, mean_M, invstd_M)
        buffers[f"{self._name}.running_mean"], buffers[f"{self._name}.running_var"] = mean_KO, var_KO
        buffers[f"{self._name}.num_batches_tracked"] = self._buffer("num_batches_tracked") + 1
        return output.view_as(a)

    @override
    def backward(self, delta: Tensor, gradients: Stacked) -> Tensor:
        z, scale_M, mean_M, invstd_M = self._kept
        back, scale_gradient_M, shift_gradient_M = aten.native_batch_norm_backward(
            delta.reshape(z.shape),
            z,
            scale_M,
            None,
            None,
            mean_M,
            invstd_M,
            True,
            self._eps,
            [True, True, True],
        )
        gradients[f"{self._name}.weight"] = scale_gradient_M.view(self._num_trials, -1)
        gradients[f"{self._name}.bias"] = shift_gradient_M.view(self._num_trials, -1)
        return cast(Tensor, back.view_as(delta))

    def _buffer(self, name: str) -> Tensor:
        return self._state.nets.buffers[f"{self._name}.{name}"][self._trials]
