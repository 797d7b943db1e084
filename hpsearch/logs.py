"""Logs go to stderr, so that stdout carries results alone."""

from __future__ import annotations

import logging
import sys

LOGGER_NAME = "hpsearch"


_verbosity = 0


def verbosity() -> int:
    """As `configure_logging` was told: for the processes that this one starts."""
    return _verbosity


def get_logger(name: str) -> logging.Logger:
    """The logger of one part of hpsearch, below the package's own."""
    return logging.getLogger(name if name.startswith(LOGGER_NAME) else f"{LOGGER_NAME}.{name}")


def configure_logging(verbosity: int) -> None:
    """Send the package's logs to stderr: -1 errors, 0 warnings, 1 progress of the work, 2 everything."""
    global _verbosity
    _verbosity = verbosity
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
