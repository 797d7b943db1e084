"""The study file as types, a file a table: every key, its bounds, its default, what it means, and who uses it.

`Vector` marks numbers that fit a tensor of shape [K]: trials that differ only in them train in one pack. All other
keys are structural: they change the program or its shapes.
"""

from hpsearch.config.schema.data import CsvConfig, DataConfig, SyntheticConfig
from hpsearch.config.schema.model import MODELS, ModelConfig
from hpsearch.config.schema.objective import ObjectiveConfig
from hpsearch.config.schema.run import RunConfig
from hpsearch.config.schema.stage import LEARNING_SAMPLERS, SAMPLERS, FineConfig, StageConfig
from hpsearch.config.schema.train import TrainConfig

__all__ = [
    "LEARNING_SAMPLERS",
    "MODELS",
    "SAMPLERS",
    "CsvConfig",
    "DataConfig",
    "FineConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "RunConfig",
    "StageConfig",
    "SyntheticConfig",
    "TrainConfig",
]
