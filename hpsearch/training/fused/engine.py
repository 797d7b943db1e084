"""The fused engine: linear nets, MLPs and sequences of convolutions without autograd, every pass counted.

Shapes: K = trials in the pack, B = batch, C = classes (of x: channels), H, W = height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.mixing import Labels
from hpsearch.errors import EngineError
from hpsearch.training.engine import StackedEngine
from hpsearch.training.fused.convolutions import Convolutions
from hpsearch.training.fused.layers import Linear
from hpsearch.training.fused.nets import hand_layers
from hpsearch.training.fused.update import LARGE, LargeUpdate
from hpsearch.training.layout import Stacked
from hpsearch.training.noise import seed_noise
from hpsearch.training.recorded_steps import RecordedSteps
from hpsearch.training.recorder import Recorder, recorder_for
from hpsearch.training.state import PackState


class FusedEngine(StackedEngine):
    """Gradients by hand; the first layer, where all trials see the same images, is one product or convolution for all.

    On a CPU large weights are updated in one pass; on CUDA whole steps are recorded, some at once, and convolutions go
    the quicker of two ways.

    Raises:
        EngineError: the net has layers that are not those of linear, mlp, lenet and convnet.
    """

    name = "fused"

    def __init__(self, module: nn.Module, state: PackState) -> None:
        if state.train.precision == "float16":
            raise EngineError(
                "train.precision = 'float16' does not run under fused.\nAllowed: bfloat16, float32, float64."
            )
        if (own_step := state.coefficients.own_step) is not None:
            raise EngineError(f"train.step = {own_step.name!r} is not among the losses that fused knows.")
        super().__init__(module, state)
        self._prepare()

    @override
    def step(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> None:
        seed_noise(x_BCHW.device, noise_seed)
        self._advance(x_BCHW, y_B)

    @override
    def run(self, epochs: Sequence[Epoch], steps: range) -> None:
        if self._steps is None or not epochs[0].on_device:  # recorded steps gather their batches on the device
            super().run(epochs, steps)
        else:
            self._steps.run(epochs[:1], steps)

    @override
    def gradients(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        seed_noise(x_BCHW.device, noise_seed)
        buffers: Stacked = {}
        loss_K, gradients = self._backward(x_BCHW, y_B, buffers)
        self._add_weight_gradients(gradients)
        return loss_K, gradients, buffers

    @torch.no_grad()
    @override
    def logits(self, x_BCHW: Tensor) -> Tensor:
        logits_KCB = self._forward(x_BCHW, None)
        # argmax over a last dimension with strides takes 3 times as long
        return logits_KCB.transpose(1, 2).contiguous()

    @override
    def num_concurrent(self) -> int:
        return self.state.num_trials

    @override
    def keep(self, slots: Sequence[int]) -> None:
        super().keep(slots)
        self._prepare()

    @override
    def weights_changed(self) -> None:
        super().weights_changed()
        self._prepare()

    def _prepare(self) -> None:
        """For the trials that are in the pack now."""
        device = self.state.lr_K.device
        # Gradients that are clipped, or added up first, wait for their update together: none is made layer by layer.
        one_pass = device.type == "cpu" and self.state.updates_apart and self.state.accumulation is None
        self._large = {name for name, t in self.state.nets.weights.items() if one_pass and t.shape[1:].numel() >= LARGE}
        rounds = self.state.train.precision == "bfloat16" and self.state.takes_bfloat16
        at_once = rounds and not self._large and self.state.accumulation is None
        self._followed = set(self.state.nets.weights) if at_once else set()
        self._layers = hand_layers(self.module, self.state, follows=self._large | self._followed)
        self._linears = [layer for layer in self._layers if isinstance(layer, Linear)]
        self._first = next(layer for layer in self._layers if isinstance(layer, Linear | Convolutions))
        self._update_large = LargeUpdate(self.state) if self._large else None
        self._steps = self._record_steps(recorder_for(device)) if device.type == "cuda" else None

    def _record_steps(self, recorder: Recorder) -> RecordedSteps:
        state = self.state
        return RecordedSteps(recorder, [self._advance], lambda: None, state.cost_sum_K, places=state.accumulation)

    @torch.no_grad()
    def _advance(self, x_BCHW: Tensor, y_B: Labels) -> None:
        state = self.state
        buffers: Stacked = {}
        loss_K, gradients = self._backward(x_BCHW, y_B, buffers)
        if state.accumulation is not None:
            self._add_weight_gradients(gradients)
            state.weigh(y_B)
            state.advance(loss_K, gradients, buffers)
            return
        large = self._update_large
        squares = large.squares(self._large) if large else state.squares()
        frozen_K = state.admit(loss_K, state.coefficients.penalty.cost(state.nets.weights, squares))
        rounded: Stacked = {}
        for layer in self._linears:
            gradient = layer.weight_gradient()
            if large and layer.weight_name in self._large:
                large(layer.weight_name, gradient, frozen_K, layer.rounded)
            elif layer.weight_name in self._followed and (copy := layer.rounded) is not None:
                gradients[layer.weight_name], rounded[layer.weight_name] = gradient, copy
            else:
                gradients[layer.weight_name] = gradient.to(loss_K.dtype)
        for name in self._large & gradients.keys():
            assert large is not None
            large(name, gradients.pop(name), frozen_K)
        state.update(gradients, frozen_K, rounded)
        state.nets.store(buffers, frozen_K)
        state.nets.average(state.watch.num_updates_K, frozen_K)

    def _add_weight_gradients(self, gradients: Stacked) -> None:
        """Those that the linear layers hold ready."""
        for layer in self._linears:
            gradients[layer.weight_name] = layer.weight_gradient().to(self.state.cost_sum_K.dtype)

    def _forward(self, x_BCHW: Tensor, buffers: Stacked | None) -> Tensor:
        """logits_KCB; the layers keep what they need to go back."""
        a = x_BCHW if isinstance(self._layers[0], Convolutions) else x_BCHW.flatten(1)
        for layer in self._layers:
            a = layer.forward(a, buffers)
        return a

    @torch.no_grad()
    def _backward(self, x_BCHW: Tensor, y_B: Labels, buffers: Stacked) -> tuple[Tensor, Stacked]:
        """(loss_K, gradients) of all but the linear layers' weights, which their layers hold ready."""
        logits_KCB = self._forward(x_BCHW, buffers)
        loss_K, delta = self.state.coefficients.loss.with_derivative(logits_KCB, y_B)
        gradients: Stacked = {}
        for layer in reversed(self._layers):
            if layer is self._first:
                layer.take(delta, gradients)
                break
            delta = layer.backward(delta, gradients)
        return loss_K, gradients
