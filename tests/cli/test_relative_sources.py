"""`--data folder:photos`, the README's own line: a path that looks like MODULE:FUNCTION, from coarse to test."""

import contextlib
import tomllib

import numpy as np
import pytest
from PIL import Image
from warm_commands import warm_commands

from hpsearch.config import load_settings
from hpsearch.stages.opening import open_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database
from hpsearch.training.images import load_images

FEW = ["--trials", "3", "--epochs", "1", "--model", "linear", "--skip-checks"]


@pytest.fixture(scope="module")
def pixels():
    """30 images of 8 x 8 in three classes that differ in brightness."""
    y = np.arange(30) % 3
    noise = np.random.default_rng(0).integers(0, 60, (30, 8, 8, 3))
    return (noise + 70 * y[:, None, None, None]).astype(np.uint8), y


def run(line, *commands):
    """(exit code, what was printed, the error) of each command; of a pair, the first is the folder in which it runs."""
    ended = []
    for command in commands:
        where, words = command if isinstance(command, tuple) else (".", command)
        words = words.split() if isinstance(words, str) else words
        if words[0] == "unfinished":
            with contextlib.chdir(line.folder):
                leave_unfinished(*words[1:])
            continue
        done = warm_commands().run(words, line.folder / where, line.environment, timeout=600)
        if words[:3] == ["best", "fine", "-f"]:
            (line.folder / "best.toml").write_text(done.stdout)
        ended.append((done.returncode, done.stdout + done.stderr, done.stderr.removeprefix("error: ")))
    return ended


def leave_unfinished(name, source):
    """A stage that is made and not begun."""
    flags = {"data.source": source, "model.name": "linear", "coarse.trials": 2, "coarse.epochs": 1}
    settings = load_settings(flags=flags)
    plan = plan_coarse(settings, name)
    db = open_database(settings.run.storage)
    open_stage(db, plan, load_images(plan.trial_config, settings.run))
    db.close()


def chain(source, other_spelling):
    """From a search to its end, with what each command prints on the way."""
    return [
        ["coarse", "--data", source, *FEW],
        ["coarse", "--data", other_spelling, *FEW],
        "fine --from coarse --trials 2 --epochs 1",
        "boundary fine",
        "best fine",
        "best fine -f toml",
        "coarse -c best.toml --name again --trials 2 --epochs 1 --skip-checks",
        "rerun fine 0 --seeds 1",
        "test fine",
        "report -o report.html",
        "status fine",
        ["unfinished", "open", source],
        "worker open",
        "status open",
    ]


def check(folder, source, ended):
    names = ["coarse", "same", "fine", "boundary", "best", "toml", "again", "rerun", "test", "report", "fine", "worker"]
    for name, (code, output, error) in zip([*names, "status"], ended, strict=True):
        assert code == 0, (name, output, error)
    output = [output for _, output, _ in ended]
    assert "3 of 3 trials" in output[0]
    assert "3 of 3 trials" in output[1]
    assert "--trust" not in "".join(output)
    assert "runs this code" not in output[5]
    assert tomllib.loads((folder / "best.toml").read_text())["data"]["source"] == source
    assert "followed its recorded curve" in output[7]
    assert "6 test images" in output[8]
    assert "2 of 2 trials" in output[-1]


def test_a_folder_from_coarse_to_the_test_set_and_from_elsewhere(hpsearch, tmp_path, pixels):
    for row, (image, label) in enumerate(zip(*pixels, strict=True)):
        (tmp_path / "photos" / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / f"class{label}" / f"{row}.png")
    (tmp_path / "sub").mkdir()
    here = "--storage sqlite:///../studies/hpsearch.db"
    *ended, from_sub, up, gone = run(
        hpsearch,
        *chain("folder:photos", "folder:./photos/"),
        ("sub", f"fine --from coarse {here}"),
        ("sub", f"fine --from coarse {here} --data folder:../photos --name up --trials 2 --epochs 1"),
        ("sub", f"rerun fine 0 {here}"),
    )
    check(tmp_path, "folder:photos", ended)
    for code, _, error in (from_sub, gone):
        assert code == 1
        assert error.splitlines() == [
            f"photos is not a folder: data.source = 'folder:photos' was looked for in {tmp_path}/sub/photos.",
            "A relative path starts at the working folder: go on where the search was begun.",
        ]
    assert up[0] == 0, up


@pytest.mark.slow  # as the folder above
def test_an_npz_file_without_ending_from_coarse_to_the_test_set(hpsearch, tmp_path, pixels):
    x, y = pixels
    split = {"x_train": x[6:], "y_train": y[6:], "x_test": x[:6], "y_test": y[:6]}
    with (tmp_path / "images").open("wb") as file:
        np.savez(file, **split)
    np.savez(tmp_path / "longer.npz", **split)
    *ended, wrong, trusted = run(
        hpsearch,
        *chain("npz:images", "npz:./images"),
        ["coarse", "--data", "npz:longer", "--name", "wrong", *FEW],
        "fine --from coarse --trust npz:images",
    )
    check(tmp_path, "npz:images", ended)
    assert wrong[0] == 1
    assert "There is a file longer.npz: say 'npz:longer.npz'." in wrong[2]
    assert trusted[0] == 2
    assert "need not be trusted" in trusted[2]
