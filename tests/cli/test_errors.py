"""Wrong input: one or two lines that name the key or file, the value and what is allowed, and the right exit code."""

import pytest


def complain(hpsearch, *arguments, code=2, **options):
    done = hpsearch(*arguments, code=code, **options)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("coarse", "--set", "train.batchsize=5"), ["train.batchsize", "batch_size"]),
        (("coarse", "--set", "train.batch_size=0"), ["train.batch_size = 0", "a whole number of at least 1"]),
        (("coarse", "--set", "train.batch_size"), ["train.batch_size", "section.key=value"]),
        (("coarse", "--space", "lr=log(0,1)"), ["space.lr", "above 0"]),
        (("coarse", "--space", "rl=log(1,2)"), ["rl", "lr"]),
        (("coarse", "--sampler", "annealing"), ["coarse.sampler = 'annealing'", "tpe"]),
        (("coarse", "--data", "cifar11"), ["data.source = 'cifar11'", "cifar10"]),
        (("coarse", "-c", "nowhere.toml"), ["nowhere.toml", "does not exist"]),
        (("coarse", "--storage", "mysql://x/y"), ["mysql", "sqlite:///"]),
        (("init", "nowhere/x.toml"), ["nowhere/x.toml"]),
        (("init", "tiny.toml"), ["tiny.toml", "--force"]),
    ],
)
def test_wrong_values_of_flags(hpsearch, arguments, words):
    message = complain(hpsearch, *arguments)
    for word in words:
        assert word in message
    assert [path.name for path in hpsearch.folder.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("coarse", "--device", "tpu"), ["tpu", "cpu"]),
        (("coarse", "--pruner", "best"), ["best", "median"]),
        (("coarse", "--name", "a\tb"), ["a\\tb", "printable"]),
    ],
)
def test_wrong_values_that_show_only_at_work_leave_no_study(hpsearch, arguments, words):
    message = complain(hpsearch, *arguments)
    for word in words:
        assert word in message
    assert not (hpsearch.folder / "studies").exists()


def test_wrong_keys_in_a_study_file(hpsearch):
    (hpsearch.folder / "wrong.toml").write_text("[train]\nlearning_rate = 0.1\n")
    message = complain(hpsearch, "coarse", "-c", "wrong.toml")
    assert "train.learning_rate" in message
    assert "lr" in message


def test_usage_errors_exit_with_2(hpsearch):
    assert "--from" in hpsearch("fine", code=2).stderr
    assert "coarze" in hpsearch("coarze", code=2).stderr


def test_no_storage_yet(hpsearch):
    for command in (("status",), ("best",), ("boundary",), ("fine", "--from", "coarse"), ("trial", "coarse", "1")):
        message = complain(hpsearch, *command, code=1)
        assert "studies/hpsearch.db" in message
        assert "hpsearch coarse" in message
    assert not (hpsearch.folder / "studies").exists()


def test_a_storage_that_cannot_be_opened(hpsearch):
    (hpsearch.folder / "notes.db").write_text("this is no database, but it is long enough to be looked at as one\n" * 9)
    message = complain(hpsearch, "status", "--storage", "sqlite:///notes.db", code=1)
    assert "notes.db" in message
    message = complain(hpsearch, "coarse", "--storage", "sqlite:////proc/nowhere/x.db", code=1)
    assert "/proc/nowhere" in message


def test_a_password_is_never_shown(hpsearch):
    message = complain(hpsearch, "status", "--storage", "postgresql://me:secret@localhost:1/x", code=1)
    assert "secret" not in message
    assert "localhost" in message


@pytest.mark.slow
def test_unknown_studies_and_trials(searched):
    message = complain(searched, "best", "coarze")
    assert "coarze" in message
    assert "'coarse'" in message
    assert "0 ... 11" in complain(searched, "trial", "coarse", "99")


def test_a_missing_extra_is_named(hpsearch):
    (hpsearch.folder / "skimage.py").write_text("raise ImportError('not here')\n")  # found first, as beside a script
    message = complain(hpsearch, "coarse", "--data", "faces")
    assert "scikit-image" in message
    assert 'pip install "hpsearch[faces]"' in message


def test_a_data_set_that_is_not_there(hpsearch):
    assert "nowhere" in complain(hpsearch, "coarse", "--data", "folder:nowhere", code=1)
    assert "x.npz" in complain(hpsearch, "coarse", "--data", "npz:x.npz", code=1)


def test_verbose_shows_the_traceback(hpsearch):
    assert "Traceback" in hpsearch("coarse", "--data", "npz:x.npz", "-v", code=1).stderr
