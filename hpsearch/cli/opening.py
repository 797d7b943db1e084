"""Finding the study that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpsearch.cli.options import read_settings
from hpsearch.errors import ConfigError, Typed

if TYPE_CHECKING:
    from hpsearch.analysis.study_trials import StudyTrials
    from hpsearch.storage import Database, StudyRow


def open_storage(storage: str | None) -> Database:
    """The database of `--storage`, the environment or the default."""
    from hpsearch.storage import open_database

    return open_database(read_settings(storage=storage).run.storage)


def find_latest(db: Database, study: str | None) -> StudyRow:
    """The study of that name, the latest one without a name.

    Raises:
        StudyNotFoundError: there is none of that name.
        ConfigError: there are none at all.
    """
    from hpsearch.storage import find_study, list_studies

    if study is not None:
        return find_study(db, study)
    studies = list_studies(db)
    if not studies:
        raise ConfigError(
            f"there are no studies in {db.url} yet.\nStart with: ", Typed(("hpsearch", "coarse"), anew=True)
        )
    return studies[-1]


def gather_latest(db: Database, study: str | None) -> StudyTrials:
    """`find_latest`, with its trials."""
    from hpsearch.analysis.study_trials import read_study

    return read_study(db, find_latest(db, study).name)
