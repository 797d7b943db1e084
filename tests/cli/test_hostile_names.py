"""Names of studies are data: refused, or shown as they are, and never a path, a tag or a terminal's command."""

import optuna
import pytest

IMG = "<img src=x onerror=alert(1)>"
SMALL = ["-c", "tiny.toml", "--trials", "2", "--epochs", "1", "--skip-checks"]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["x" * 10_000, "a\nb", "a\x1b[31mb", " "], ids=["long", "newline", "escape", "blank"])
def test_what_cannot_be_a_name_is_refused(hpsearch, name):
    refused = hpsearch("coarse", *SMALL, "--name", name, code=2).stderr
    assert "cannot be the name of a study" in refused
    assert len(refused) < 400
    assert "\x1b" not in refused
    assert not (hpsearch.folder / "studies").exists()


def test_nul_comes_in_through_python_alone(hpsearch):
    """No shell can give it to a program; here it comes over a socket, into `sys.argv`."""
    done = hpsearch("coarse", *SMALL, "--name", "a\0b", code=2)
    assert r"'a\x00b' (3 characters) cannot be the name of a study" in done.stderr
    assert not (hpsearch.folder / "studies").exists()


@pytest.mark.slow
def test_odd_names_are_only_names(hpsearch):
    """Paths and tags: nothing is written outside studies/ but the report, in which nothing runs."""
    folder = hpsearch.folder
    before = files(folder.parent)
    names = ["../x", "../../x", "/tmp/x", IMG, "[red]x[/red]", "%s{0}", "x" * 512]
    for name in ("../x", IMG):
        hpsearch("coarse", *SMALL, "--name", name)
        hpsearch("fine", "--from", name, "--trials", "2", "--epochs", "1", "--name", f"{name}-fine")
        hpsearch("rerun", name, "0", "--seeds", "1")
    for name in names[1:3] + names[4:]:
        hpsearch("coarse", *SMALL, "--name", name, "-q")
    shown = hpsearch("status").stdout
    assert all(name in shown for name in names if len(name) < 100)
    assert {row["study"] for row in hpsearch.json("status")} == {*names, "../x-fine", f"{IMG}-fine"}
    hpsearch("report", "-o", "report.html", "../x", IMG)
    page = (folder / "report.html").read_text()
    assert IMG not in page
    assert "&lt;img src=x" in page
    new = files(folder.parent) - before
    inside = str(folder.relative_to(folder.parent))
    assert all(path.startswith(f"{inside}/studies/") for path in new - {f"{inside}/report.html"})
    assert not any("img" in path or "red" in path for path in new)  # files have generated names


def test_names_of_others_cannot_be_made_into_files_by_run(hpsearch):
    hpsearch("run", "-c", "tiny.toml", "--name", "../../up", "--max-stages", "1", "--set", "coarse.trials=3",
             "--skip-checks")  # fmt: skip
    assert [row["study"] for row in hpsearch.json("status")] == ["../../up-coarse"]
    assert not list(hpsearch.folder.parent.glob("up*"))


def test_a_terminal_obeys_no_name_in_another_programs_database(hpsearch):
    storage = f"sqlite:///{hpsearch.folder}/optuna.db"
    study = optuna.create_study(study_name="a\x1b[31mb", storage=storage, direction="maximize")
    choice = optuna.distributions.CategoricalDistribution(["x\x1b]0;title\x07", "y"])
    study.add_trial(
        optuna.trial.create_trial(params={"k\x9bind": choice.choices[0]}, distributions={"k\x9bind": choice}, value=1.0)
    )
    for command in (["status"], ["status", study.study_name], ["best"], ["boundary"], ["trial", study.study_name, "0"]):
        shown = hpsearch(*command, "--storage", storage).stdout
        assert not set("\x1b\x07\x9b") & set(shown), command
        assert ("k ind" if command == ["boundary"] else "a [31mb") in shown, command
