"""Study files: what a search is, checked before anything starts."""

from hpsearch.config.hyperparameters import canonical_name, hard_limits, is_vector
from hpsearch.config.loading import Settings, load_settings
from hpsearch.config.ranges import Choice, FloatRange, IntRange, NumberRange, Range, dump_range, parse_range
from hpsearch.config.schema import (
    DataConfig,
    ModelConfig,
    RunConfig,
    StageConfig,
    SyntheticConfig,
    TrainConfig,
)
from hpsearch.config.study import StudyConfig, differences, fingerprint

__all__ = [
    "Choice",
    "DataConfig",
    "FloatRange",
    "IntRange",
    "ModelConfig",
    "NumberRange",
    "Range",
    "RunConfig",
    "Settings",
    "StageConfig",
    "StudyConfig",
    "SyntheticConfig",
    "TrainConfig",
    "canonical_name",
    "differences",
    "dump_range",
    "fingerprint",
    "hard_limits",
    "is_vector",
    "load_settings",
    "parse_range",
]
