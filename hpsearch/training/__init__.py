"""Training many trials as one program: packs, engines, optimizers. Knows no Optuna and no database."""

from hpsearch.config.structure import group, structure_key
from hpsearch.training.explosion import CHECK_STEPS
from hpsearch.training.pack import Pack, PackReport
from hpsearch.training.snapshot import Snapshot

__all__ = ["CHECK_STEPS", "Pack", "PackReport", "Snapshot", "group", "structure_key"]
