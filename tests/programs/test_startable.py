import sys

import pytest

from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.usercode import UserCodeError
from hpsearch.programs.program import Program, UnreadyError
from hpsearch.programs.startable import refuse_unstartable


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print(1)")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "folder").mkdir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-program", "{x}"), "the program 'no-such-program' is not there"),
        (("train.py",), "as ./train.py"),
        (("./nothere",), "the program './nothere' is not there"),
        (("./train.py",), "the program './train.py' is not executable"),
        (("./folder",), "the program './folder' is a folder"),
        (("python", "nothere.py", "{x}"), "the script 'nothere.py' is not there"),
        ((sys.executable, "-u", "nothere.py"), "the script 'nothere.py' is not there"),
        (("python3.11", "-W", "error", "nothere.py"), None),  # not here, or the script is not
        (("sh", "nothere.sh"), "the script 'nothere.sh' is not there"),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(here, words, said):
    with pytest.raises(UserCodeError, match=said and said.replace(".", r"\.")):
        refuse_unstartable(words)


@pytest.mark.parametrize(
    "words",
    [
        ("./run", "{x}"),
        ("sh", "-c", "echo nothere.py"),
        (sys.executable, "train.py", "other.py"),
        (sys.executable, "-m", "nothere"),
        (sys.executable, "{which}.py"),
        ("{program}", "x"),
    ],
)
def test_what_may_be_started_is_left_alone(here, words):
    refuse_unstartable(words)


def test_it_is_known_before_the_first_trial(here):
    with pytest.raises(UnreadyError, match=r"the script 'nothere\.py' is not there"):
        Program(ObjectiveConfig(command=(sys.executable, "nothere.py", "{x}"))).start()
