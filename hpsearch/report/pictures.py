"""Figures as pictures, where a renderer is installed: kaleido, which draws with a Chrome of the machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hpsearch.errors import ConfigError, HpsearchError
from hpsearch.report.search_report import Report

WIDTH = 1000  # pixels
SCALE = 2  # pixels of a PNG per pixel of the figure


def check_renderer(feature: str) -> None:
    """Whether pictures can be drawn here.

    Raises:
        ConfigError: kaleido is not installed.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise ConfigError(f"{feature} needs the package kaleido.\nInstall it with: pip install kaleido")


def write_pictures(report: Report, folder: Path, kind: str) -> list[Path]:
    """Write each figure to `folder` under its id, in the light theme; the files.

    Raises:
        ConfigError: the folder cannot be made.
        HpsearchError: the renderer failed, as it does without a Chrome.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--{kind} {folder} cannot be made: {error.strerror}.") from None
    paths = []
    for name, figure in report.figures.items():
        path = folder / f"{name}.{kind}"
        try:
            path.write_bytes(figure.to_image(format=kind, width=WIDTH, height=figure.layout.height, scale=SCALE))
        except Exception as error:  # kaleido raises whatever its browser does
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise HpsearchError(f"{path} cannot be drawn: {reason}\nkaleido needs Chrome or Chromium.") from None
        paths.append(path)
    return paths
