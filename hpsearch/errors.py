"""Everything that hpsearch raises on purpose.

A message is one or two lines that name the key or the file, the value, and what is allowed. Only the command
line turns an error into an exit code.
"""


class HpsearchError(Exception):
    """Base of all errors meant for the user."""

    exit_code = 1
    label = "error"
    """What stands before the message."""


class ConfigError(HpsearchError):
    """A study file, a flag or an environment variable says something that is not allowed."""

    exit_code = 2


class DataError(HpsearchError):
    """A data set cannot be read or is not fit to train on."""


class MissingExtraError(HpsearchError):
    """A package is missing that one of the optional features needs."""

    exit_code = 2

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f'{feature} needs the package {package}.\nInstall it with: pip install "hpsearch[{extra}]"')


class StorageError(HpsearchError):
    """The database cannot be opened, read or written."""


class StudyNotFoundError(StorageError):
    """No study of that name is in the storage."""

    exit_code = 2


class RefusedError(HpsearchError):
    """A check or a fingerprint says no: going on would give numbers that mean something else."""

    exit_code = 3


class EngineError(HpsearchError):
    """A training engine cannot run the given model or optimizer."""
