"""What images become where only the head of a net trains: features, computed once, and a net that is the head alone."""

from __future__ import annotations

from dataclasses import dataclass

from hpsearch.config import ModelConfig


@dataclass(frozen=True)
class FrozenBody:
    """The body whose features images have been replaced by.

    Attributes:
        num_features: of an image.
        num_views: 2 where images come as they are and flipped, else 1.
    """

    num_features: int
    num_views: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what the head takes for an image."""
        return self.num_features, 1, 1

    def head(self, model: ModelConfig) -> ModelConfig:
        """The head as a net of its own."""
        keys = ("activation", "dropout", "init", "init_scale")
        own = {"name": "mlp", "hidden": model.hidden} if model.hidden else {"name": "linear"}
        return ModelConfig(**own, **{key: getattr(model, key) for key in keys})
