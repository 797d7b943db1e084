"""A trained net as an ONNX model, from images as they are stored to probabilities: normalization is inside.

Shape suffixes: B = batch, C = classes (of images: channels), H = height, W = width.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hpsearch.datasets.normalizer import normalizer
from hpsearch.errors import ConfigError, MissingExtraError
from hpsearch.search.trained_net import TrainedNet

INPUT, OUTPUT = "images", "probabilities"
PACKAGES = ("onnx", "onnxscript")  # which PyTorch's exporter takes


class _FromPixels(nn.Module):
    """The net behind what is done to its images: in float32, since few runtimes have convolutions in float64."""

    def __init__(self, net: TrainedNet) -> None:
        super().__init__()
        self.net = net.module(torch.device("cpu")).float()
        self.normalize = normalizer(net.preprocessing.normalization, torch.empty(0))

    def forward(self, images: Tensor) -> Tensor:
        """probabilities_BC of images_BCHW."""
        # A copy, as the normalization of floats is in place.
        probabilities_BC: Tensor = self.net(self.normalize(images.float().clone())).softmax(1)
        return probabilities_BC


def onnx_model(net: TrainedNet, title: str, metadata: Mapping[str, str]) -> bytes:
    """The model, to be written to a file.

    Its input `images` is B,C,H,W of any B: bytes 0 ... 255 where the training images were bytes, as those of files are,
    else floats like theirs. Its output `probabilities` is B,C in float32, in the order of `classes`, a list in JSON in
    the metadata.

    Args:
        net: of a trial.
        title: a line on what it is.
        metadata: more of it.

    Raises:
        MissingExtraError: a package for it is missing.
        ConfigError: PyTorch cannot express the net in ONNX, or its code is not there.
        RefusedError: its code is not trusted.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("--onnx", package, "onnx")
    model, pre = _FromPixels(net).eval(), net.preprocessing
    images = torch.zeros((2, *pre.shape), dtype=torch.uint8 if pre.normalization.from_bytes else torch.float32)
    try:
        program = torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            dynamic_shapes={INPUT: {0: "B"}},
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        proto.doc_string = title
        _forget_where(proto)
        for key, value in {"classes": json.dumps(pre.class_names), **metadata}.items():
            proto.metadata_props.add(key=key, value=value)
        serialized: bytes = proto.SerializeToString()
    except Exception as error:  # as many kinds as there are nets
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"--onnx: PyTorch cannot express the net {net.stored.config.model.name} in ONNX: {why}\n"
            "Allowed: nets that torch.export takes; without --onnx, the folder has weights and a script."
        ) from None
    return serialized


def _forget_where(proto: Any) -> None:
    """Nothing of the exporter's notes, which hold paths of this machine and lines of the user's code."""
    graph = proto.graph
    for parts in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for part in parts:
            del part.metadata_props[:]
    del graph.metadata_props[:], proto.metadata_props[:]
