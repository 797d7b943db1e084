"""The table of techniques: complete, and of keys and tests that exist."""

import re
from pathlib import Path

import pytest

from hpsearch.config import load_settings
from hpsearch.config.schema import RunConfig
from hpsearch.config.study import StudyConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "notes.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split("|")] for line in PAGE.splitlines() if re.match(r"\| \d+ ", line)
]
VALUE = re.compile(r"`(data|model|train)\.(\w+) = ([^`]+)`")


def section(name):
    return RunConfig() if name == "run" else getattr(StudyConfig(), name)


def test_each_technique_has_its_row():
    assert [int(row[0]) for row in ROWS] == list(range(1, 148))
    assert {len(row) for row in ROWS} == {5}
    assert len({row[1] for row in ROWS}) == 147


def test_what_is_said_to_be_there_is_shown_by_a_test():
    for _, technique, _, here, test in ROWS:
        assert here, technique
        if test == "-":
            assert "not there" in here or "out of scope" in here or "no test" in here or "read as" in here, technique
        else:
            assert (ROOT / test).is_file(), test


def test_the_keys_that_it_names_exist():
    named = set(re.findall(r"\b(data|model|train|coarse|fine|run)\.([a-z]\w*)", PAGE))
    assert len(named) > 40
    for name, key in named:
        assert key in type(section(name)).model_fields, (name, key)


@pytest.mark.parametrize(("name", "key", "text"), sorted(set(VALUE.findall(PAGE))))
def test_the_values_that_it_gives_them_are_allowed(name, key, text):
    flags = [f"{name}.{key}={text}"]
    if (name, key) == ("model", "norm"):
        flags.append("model.name=convnet")  # of channels
    if key in ("freeze", "pretrained"):
        flags.append("model.name=torchvision:resnet18")
    load_settings(sets=flags)


def test_the_study_files_that_it_names_exist():
    for name in re.findall(r"studies/[\w-]+\.toml", PAGE):
        assert (ROOT / name).is_file(), name
