"""Storage URLs: which are allowed, and how they look where people see them."""

from __future__ import annotations

import re

import sqlalchemy as sa

from hpsearch.errors import ConfigError

ALLOWED = "Allowed: sqlite:///FILE, postgresql://USER@HOST/NAME."
POSTGRES_NAMES = ("postgres", "postgresql", "postgresql+psycopg")  # postgres:// is libpq's own short form
SQLITE_NAMES = ("sqlite", "sqlite+pysqlite")


def parse_url(text: str) -> sa.URL:
    """The URL of a storage, with the driver we use spelled out.

    Raises:
        ConfigError: it is no URL, of another database, or of a SQLite database that other processes cannot open.
    """
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError(f"storage = {mask_text(text)!r} is not a URL of a database.\n{ALLOWED}") from None
    if url.drivername in POSTGRES_NAMES:
        if not url.database:
            raise ConfigError(f"storage = {mask(url)!r} names no database.\n{ALLOWED}")
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in SQLITE_NAMES:
        raise ConfigError(f"storage = {mask(url)!r}: {url.drivername!r} is not supported.\n{ALLOWED}")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigError(f"storage = {mask(url)!r} is not a file, so no other process could read it.\n{ALLOWED}")
    return url.set(drivername="sqlite")


def mask(url: sa.URL) -> str:
    """A URL as text, fit to be seen: *** for passwords, also for those among the options."""
    hidden = {key: "***" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def mask_text(text: str) -> str:
    """What is no URL, fit to be seen: everything that could be a user's name or password is ***."""
    text = re.sub(r"(password=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)
    return re.sub(r"^([\w+.-]*:?/*).*@", r"\1***@", text, flags=re.DOTALL)
