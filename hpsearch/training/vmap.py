"""The vmap engine: K trials as one program, made from any module by torch.func.

Shapes: K = trials in the pack, B = batch, C = classes or channels, H, W = image height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from typing_extensions import override

from hpsearch.datasets.mixing import Labels
from hpsearch.errors import EngineError
from hpsearch.training.engine import StackedEngine
from hpsearch.training.layout import Stacked
from hpsearch.training.noise import seed_noise
from hpsearch.training.precision import ROUNDED
from hpsearch.training.state import PackState


class VmapEngine(StackedEngine):
    """The forward pass is mapped over the slots; ordinary autograd goes back through the batched operators.

    A trial's loss depends on its own parameters alone, so the gradient of the sum of the losses holds the gradient
    of each. That is faster than `vmap(grad(...))`, whose backward pass is interpreted again, operator by operator.
    """

    name = "vmap"

    def __init__(self, module: nn.Module, state: PackState) -> None:
        super().__init__(module, state)
        if (precision := state.train.precision) in ROUNDED:  # vmap hides the operators from torch.autocast
            raise EngineError(f"train.precision = {precision!r} does not run under vmap.\nAllowed: float32, float64.")

    @override
    def gradients(self, x_BCHW: Tensor, y_B: Labels, noise_seed: int) -> tuple[Tensor, Stacked, Stacked]:
        parameters = {name: tensor.detach().requires_grad_() for name, tensor in self.state.nets.parameters.items()}
        buffers = {name: tensor.clone() for name, tensor in self.state.nets.buffers.items()}  # written in place
        seed_noise(x_BCHW.device, noise_seed)
        if (own := self.state.coefficients.own_step) is not None:

            def loss_of(parameters: Stacked, buffers: Stacked, numbers_M: Tensor) -> Tensor:
                return own.loss(self.module, parameters, buffers, x_BCHW, y_B, numbers_M)

            loss_K: Tensor = vmap(loss_of, randomness="same")(parameters, buffers, own.numbers_KM)
        else:
            loss_K = self.state.coefficients.loss(self._forward(parameters, buffers, x_BCHW), y_B)
        found = torch.autograd.grad(loss_K.sum(), list(parameters.values()), materialize_grads=True)
        return loss_K.detach(), dict(zip(parameters, found, strict=True)), buffers

    @torch.no_grad()
    @override
    def logits(self, x_BCHW: Tensor) -> Tensor:
        self.module.eval()
        return self._forward(self.state.nets.parameters, self.state.nets.buffers, x_BCHW)

    @override
    def num_concurrent(self) -> int:
        return self.state.num_trials

    def _forward(self, parameters: Stacked, buffers: Stacked, x_BCHW: Tensor) -> Tensor:
        def forward(parameters: Stacked, buffers: Stacked, x_BCHW: Tensor) -> Tensor:
            logits_BC: Tensor = functional_call(self.module, (parameters, buffers), (x_BCHW,))
            return logits_BC

        # "same": all trials see the noise that one of them would see alone
        logits_KBC: Tensor = vmap(forward, in_dims=(0, 0, None), randomness="same")(parameters, buffers, x_BCHW)
        return logits_KBC
