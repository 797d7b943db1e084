"""A convolution and what follows it for a few trials: by operators, by kernels, and by plain PyTorch one by one."""

from types import SimpleNamespace

import torch
from torch import nn

from hpsearch.training.fused.batched_convolutions import BatchedConvolution, Run
from hpsearch.training.fused.convolution_choice import InTurn
from hpsearch.training.fused.convolutions import Conv2d, MaxPool2d
from hpsearch.training.fused.layers import Activation


class Small:
    """Random parameters, input x_BMHW (x_BCHW if shared), and delta for its output."""

    def __init__(
        self, conv, *, num_trials=3, num_images=4, size=(7, 6), pool=True, activation=nn.Tanh, shared=False,
        dtype=torch.float64, precision=None, device="cpu", seed=0, numbers=None,
    ):  # fmt: skip
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            if numbers is not None:
                places = torch.randint(len(numbers), shape, generator=generator)
                return torch.tensor(numbers, dtype=torch.float64)[places].to(device, dtype)
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

        self.modules = [conv, *([activation()] if activation else []), *([nn.MaxPool2d(2)] if pool else [])]
        self.shared = shared
        self.parameters = {f"conv.{name}": draw(num_trials, *p.shape) for name, p in conv.named_parameters()}
        num_channels = conv.in_channels * (1 if shared else num_trials)
        self.x = draw(num_images, num_channels, *size).contiguous(memory_format=torch.channels_last)
        train = SimpleNamespace(precision=precision or str(dtype).removeprefix("torch."), batch_size=num_images)
        nets = SimpleNamespace(parameters=self.parameters)
        state = SimpleNamespace(nets=nets, num_trials=num_trials, train=train)
        self.layers = [Conv2d(state, "conv", slice(None), conv)]
        if pool:
            self.layers.append(MaxPool2d(state, "", slice(None), self.modules[-1]))
        if activation:
            self.layers.append(Activation(state, "", slice(None), self.modules[1]))
        self.run = Run.of(self.layers)
        self.operators, self.kernels = InTurn(self.layers), BatchedConvolution(self.run)
        shape = self.operators.forward(self.x, None).shape
        self.delta = draw(*shape)

    def there_and_back(self, layer):
        """Output and derivatives, as the engine has them."""
        output, gradients = layer.forward(self.x, {}), {}
        delta = self.delta.to(output.dtype).contiguous(memory_format=torch.channels_last)
        if self.shared:
            layer.take(delta.clone(), gradients)
            return {"output": output, **gradients}
        return {"output": output, "input": layer.backward(delta.clone(), gradients), **gradients}

    def plainly(self):
        """The same by autograd, a net at a time."""
        num_trials = len(self.parameters["conv.weight"])
        found = []
        for trial, delta in enumerate(self.delta.chunk(num_trials, 1)):
            own = {name: t[trial].clone().requires_grad_() for name, t in self.parameters.items()}
            x = (self.x if self.shared else self.x.chunk(num_trials, 1)[trial]).clone().requires_grad_()
            conv, *others = self.modules
            z = torch.func.functional_call(conv, {name.removeprefix("conv."): t for name, t in own.items()}, (x,))
            output = nn.Sequential(*others)(z)
            derivatives = torch.autograd.grad(output, [x, *own.values()], delta)
            found.append([output.detach(), *derivatives])
        output, back, *gradients = zip(*found, strict=True)
        inputs = {} if self.shared else {"input": torch.cat(back, 1)}
        stacked = {name: torch.stack(each) for name, each in zip(self.parameters, gradients, strict=True)}
        return {"output": torch.cat(output, 1), **inputs, **stacked}


def assert_same(found, expected, rtol, atol):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=rtol, atol=atol, msg=lambda text, of=name: f"{of}: {text}")
