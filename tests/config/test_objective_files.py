import sys

import pytest

from hpsearch.config.module_files import module_file
from hpsearch.config.objective_files import MAX_SIZE, objective_files, objective_hashes
from hpsearch.config.schema import ObjectiveConfig


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')")
    (tmp_path / "pack" / "inner").mkdir(parents=True)
    for name in ("pack/__init__.py", "pack/inner/__init__.py", "pack/inner/deep.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    (tmp_path / "spaced").mkdir()
    (tmp_path / "spaced" / "script.py").write_text("print(1)")
    return tmp_path


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("mine", "mine.py"),
        ("pack", "pack/__init__.py"),
        ("pack.inner.deep", "pack/inner/deep.py"),
        ("spaced.script", "spaced/script.py"),  # without __init__.py
        ("spaced", None),
        ("mine.deep", None),
        ("nothere.deep", None),
        ("sys", None),
    ],
)
def test_the_file_of_a_module_is_found_without_importing_anything(here, module, file):
    before = {*sys.modules}
    assert module_file(module) == (here / file if file is not None else None)
    assert {*sys.modules} - before == set()


def test_a_change_of_the_file_is_a_change_of_its_hash(here):
    objective = ObjectiveConfig(function="mine:bowl")
    before = objective_hashes(objective)
    assert before.keys() == {"mine"}
    (here / "mine.py").write_text("other")
    assert objective_hashes(objective).keys() == {"mine"}
    assert objective_hashes(objective) != before


def test_of_a_program_those_words_that_are_files(here):
    words = ("python", "spaced/script.py", "--lr", "{lr}", "x" * 5000, "a\0b", "pack")
    objective = ObjectiveConfig(command=words)
    assert [*objective_files(objective)] == ["spaced/script.py"]
    with (here / "data.npz").open("wb") as file:
        file.truncate(MAX_SIZE + 1)
    assert objective_hashes(ObjectiveConfig(command=("cat", "data.npz"))) == {}
