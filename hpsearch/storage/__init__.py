"""Storages: opening a database, its studies as plain rows, and the queue that a study is.

The tables are Optuna's, so that Optuna, its dashboard and any other program can read along; two more of our own hold
leases and epochs. Nothing here imports Optuna, except to make the schema of a new database.
"""

from hpsearch.errors import StorageError, StudyNotFoundError
from hpsearch.storage.choosing import Closing, GoingOn, RungQueue
from hpsearch.storage.creation import StudyExistsError, add_trials, create_stage, write_attrs
from hpsearch.storage.database import Database, open_database
from hpsearch.storage.failures import StorageAwayError
from hpsearch.storage.late_file import open_late
from hpsearch.storage.leases import STRUCTURE, Lease
from hpsearch.storage.overview import StudyOverview, count_epochs, count_exploded, read_linked, read_overview
from hpsearch.storage.params import ChosenParams, ParamChooser
from hpsearch.storage.queue import LEASE_SECONDS, Outcome, Queue, Standing
from hpsearch.storage.queued_trials import RUNG, QueuedTrial, earlier_attempts, is_paused, stop_of
from hpsearch.storage.rows import NewTrial, State, StudyRow, TrialRow
from hpsearch.storage.studies import count_states, find_study, list_studies, read_epochs, read_trials
from hpsearch.storage.tables import FINISHED
from hpsearch.storage.upgrade import Upgrade, init_storage, upgrade_storage
from hpsearch.storage.workers import is_dead, new_worker_id

__all__ = [
    "FINISHED",
    "LEASE_SECONDS",
    "RUNG",
    "STRUCTURE",
    "ChosenParams",
    "Closing",
    "Database",
    "GoingOn",
    "Lease",
    "NewTrial",
    "Outcome",
    "ParamChooser",
    "Queue",
    "QueuedTrial",
    "RungQueue",
    "Standing",
    "State",
    "StorageAwayError",
    "StorageError",
    "StudyExistsError",
    "StudyNotFoundError",
    "StudyOverview",
    "StudyRow",
    "TrialRow",
    "Upgrade",
    "add_trials",
    "count_epochs",
    "count_exploded",
    "count_states",
    "create_stage",
    "earlier_attempts",
    "find_study",
    "init_storage",
    "is_dead",
    "is_paused",
    "list_studies",
    "new_worker_id",
    "open_database",
    "open_late",
    "read_epochs",
    "read_linked",
    "read_overview",
    "read_trials",
    "stop_of",
    "upgrade_storage",
    "write_attrs",
]
