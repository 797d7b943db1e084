"""Nets and steps of the user's own: whether a stage can train with them, asked before its trials fail by it."""

from __future__ import annotations

from hpsearch.config import StudyConfig
from hpsearch.config.usercode import UserCodeError, blame, is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training.own_step import refuse_beside_step
from hpsearch.training.pack import Pack

ONE_PROGRAM = "vmap"  # makes one program of a net: not of each; auto and graph have loop to fall back on


def refuse_user_code(config: StudyConfig, data: TrainingData, engine: str) -> None:
    """Try a step of the net, or the step that is the user's, on two images, and with that engine.

    Raises:
        UserCodeError: it raises or returns something else than losses, or the engine cannot take it, with torch's
            reason and what can.
        ConfigError: something beside a step would do nothing.
    """
    refuse_beside_step(config.data.augment, config.train)
    if (step := config.train.step) is not None:
        with blame(step, "called with the net, two images with their labels and its numbers, it"):
            Pack(config, data, [TrialSpec(0)], engine="loop", keeps_best=False).try_step()
    if engine != ONE_PROGRAM or not (is_user_code(config.model.name) or step):
        return
    try:
        Pack(config, data, [TrialSpec(0)], engine=engine, keeps_best=False)
    except EngineError as error:
        raise UserCodeError(str(error)) from error
