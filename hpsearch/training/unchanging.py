"""What no training changes of a net: frozen parameters, and the buffers of modules that stay in evaluation mode."""

from __future__ import annotations

from torch import nn


def unchanging_names(module: nn.Module) -> frozenset[str]:
    """Names of parameters and buffers that all trials of a pack share: they are the net's own, held once.

    A module stays in evaluation mode if `train()` leaves it there; the mode of the net is as before.
    """
    was_training = module.training
    module.train()
    still = [name for name, each in module.named_modules() if not each.training]
    module.train(was_training)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    buffers = {
        f"{name}.{buffer}" if name else buffer
        for name in still
        for buffer, _ in module.get_submodule(name).named_buffers(recurse=False)
    }
    return frozenset(frozen | buffers)
