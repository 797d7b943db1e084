"""Nets of the user's own under an engine that was asked for by name: whether it takes them, before trials fail by it."""

from __future__ import annotations

from hpsearch.config import StudyConfig
from hpsearch.config.usercode import UserCodeError, is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training.pack import Pack

ONE_PROGRAM = (
    "vmap"  # the engine that makes one program of a net: not of each; auto and graph have loop to fall back on
)


def refuse_user_net(config: StudyConfig, data: TrainingData, engine: str) -> None:
    """Try a step of the net with that engine.

    Raises:
        UserCodeError: it cannot train it, with torch's reason and what can; or the net is not as it should be.
    """
    if engine != ONE_PROGRAM or not is_user_code(config.model.name):
        return
    try:
        Pack(config, data, [TrialSpec(0)], engine=engine, keeps_best=False)
    except EngineError as error:
        raise UserCodeError(str(error)) from error
