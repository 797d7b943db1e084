"""Secrets from files, as containers are given them: a variable NAME_FILE has the path, the file the secret alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from hpsearch.errors import ConfigError

STORAGE_FILE = "HPSEARCH_STORAGE_FILE"
PASSWORD_FILE = "HPSEARCH_STORAGE_PASSWORD_FILE"
SECRET_FILES = (STORAGE_FILE, PASSWORD_FILE)
ALLOWED = "Allowed: HPSEARCH_STORAGE=postgresql://USER@HOST/NAME with it."
MAX_SECRET = 10_000  # characters; more is no secret but a file named by mistake


def read_secret(path: str | Path, where: str, what: str) -> str:
    """The secret in a file, without the end of its line; `where` named the file, `what` should be in it.

    Raises:
        ConfigError: the file cannot be read, is empty, or has more than one line; its content is never shown.
    """
    allowed = f"Allowed: a file with {what} and nothing else, readable for this user."
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            secret = file.read(MAX_SECRET + 1).rstrip("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{where} {path} is not a text file.\n{allowed}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{where} {path} cannot be read: {reason}.\n{allowed}") from None
    if not secret.strip():
        raise ConfigError(f"{where} {path} is empty.\n{allowed}")
    if "\n" in secret or "\0" in secret or len(secret) > MAX_SECRET:
        raise ConfigError(f"{where} {path} holds more than one line.\n{allowed}")
    return secret


def read_storage_file(environment: Mapping[str, str]) -> str | None:
    """The URL of the storage in the file that HPSEARCH_STORAGE_FILE names; None without that variable.

    Raises:
        ConfigError: the file cannot be used, or the URL is given a second time.
    """
    if STORAGE_FILE not in environment:
        return None
    for other in ("HPSEARCH_STORAGE", "HPSEARCH_RUN__STORAGE"):
        if other in environment:
            raise ConfigError(f"{other} and {STORAGE_FILE} are both given.\nAllowed: one of them.")
    return read_secret(environment[STORAGE_FILE], STORAGE_FILE, "the URL of the storage").strip()


def add_password(url: str, file: str, *, is_flag: bool) -> str:
    """The URL with the password in `file`; a SQLite file that a flag names instead needs none.

    Raises:
        ConfigError: the file cannot be used, the URL has a password, or is of a storage that takes none.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # whoever opens it says what is wrong
    if not parts.scheme.startswith("postgres"):
        if is_flag:
            return url
        raise ConfigError(
            f"{PASSWORD_FILE} is given, but the storage is a {parts.scheme} file, which has no password.\n{ALLOWED}"
        )
    account, _, host = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    if password or "password=" in parts.query.lower():
        raise ConfigError(f"the storage's URL has a password, and {PASSWORD_FILE} is given too.\nAllowed: one of them.")
    if not user:
        raise ConfigError(f"{PASSWORD_FILE} is given, but the storage's URL names no user.\n{ALLOWED}")
    password = read_secret(file, PASSWORD_FILE, "the password of the storage")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
