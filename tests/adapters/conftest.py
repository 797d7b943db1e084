import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/adapters.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LIBRARIES = ("sklearn", "skorch", "lightning", "transformers")


class Ending:
    """In place of `report`: keeps what it hears, and says that the trial is to end at one epoch."""

    def __init__(self, at=None, error=None):
        self.heard, self.at, self.error = [], at, error

    def __call__(self, value, epoch):
        self.heard.append((epoch, value))
        if epoch == self.at:
            raise self.error


@pytest.fixture
def ending():
    return Ending


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The objective of the page's example for a library, as the user's module has it."""

    def make(library):
        pytest.importorskip(library)
        names = {"__name__": f"{library}_example"}
        monkeypatch.chdir(tmp_path)
        if library == "transformers":  # which takes the folder tests/datasets for the package of that name
            monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)
        exec(compile(CODE[LIBRARIES.index(library)], "adapters.md", "exec"), names)
        return names

    return make
