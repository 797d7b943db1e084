"""optuna-dashboard on a storage, behind the guard."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import sqlalchemy as sa
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import wsgi

from hpsearch.dashboard.compression import Compressed
from hpsearch.dashboard.guard import Guard, Rules
from hpsearch.dashboard.shared_answers import Shared
from hpsearch.storage import Database
from hpsearch.storage.tables import trial_params, trials

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def dashboard_app(
    db: Database, rules: Rules, artifact_dir: Path, one_at_a_time: threading.Lock | None = None
) -> WSGIApplication:
    """The dashboard of all studies in a storage, as a WSGI application.

    Args:
        db: an open database; its trials are cached in memory.
        rules: who may see and change what.
        artifact_dir: where kept weights lie, to be downloaded.
        one_at_a_time: held while something long is computed.
    """
    app = wsgi(db.optuna_storage(), artifact_store=KeptWeights(artifact_dir))
    return Guard(Shared(Compressed(app), one_at_a_time), rules, lambda study_id: study_size(db, study_id))


class KeptWeights(FileSystemArtifactStore):
    """Artifacts in a folder, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep an artifact."""
        self._folder.mkdir(parents=True, exist_ok=True)
        super().write(artifact_id, content_body)


def study_size(db: Database, study_id: int) -> tuple[int, int]:
    """Numbers of trials and of hyperparameters; zeros for a study that is not there."""
    wanted = trials.c.study_id == study_id
    names = sa.select(sa.func.count(trial_params.c.param_name.distinct()))
    with db.read() as connection:
        num_trials = connection.scalar(sa.select(sa.func.count()).select_from(trials).where(wanted))
        num_params = connection.scalar(names.join(trials, trials.c.trial_id == trial_params.c.trial_id).where(wanted))
    return num_trials or 0, num_params or 0
