"""Nets of the user's own, through the command: what they print, and what an engine does not take."""

import json

NETS = """
import torch
from torch import nn

class OldSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad

class Net(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.fc = nn.Linear(shape[0] * shape[1] * shape[2], num_classes)

    def forward(self, x):
        print("images", list(x.shape))
        return self.fc(OldSquare.apply(x.flatten(1)))
"""
SEARCH = [
    "--data",
    "digits",
    "--model",
    "unusual:Net",
    "--trials",
    "1",
    "--epochs",
    "1",
    "--space",
    "lr=log(1e-4,1e-3)",
]


def test_what_a_net_prints_is_not_in_the_document_and_engines_are_refused_first(hpsearch):
    (hpsearch.folder / "unusual.py").write_text(NETS)
    refused = hpsearch("coarse", *SEARCH, "--engine", "vmap", code=2)
    assert "engine vmap cannot train model unusual:Net: " in refused.stderr
    assert "must override the setup_context" in refused.stderr
    assert not (hpsearch.folder / "studies").exists()
    done = hpsearch("coarse", *SEARCH, "--json")
    assert json.loads(done.stdout)["study"] == "coarse"
    assert "images [2, 1, 8, 8]" in done.stderr
