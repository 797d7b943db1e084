"""--repeat-best and data.folds, by the front door."""

import pytest

SEARCH = ("coarse", "-c", "tiny.toml", "--repeat-best", "2", "--set", "data.folds=3", "--trials", "6")


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, command_line, tiny_study):
    folder = tmp_path_factory.mktemp("repeated")
    (folder / "tiny.toml").write_text(tiny_study)
    line = command_line(folder)
    line.coarse = line(*SEARCH)
    return line


@pytest.mark.slow
def test_the_end_of_a_stage_names_the_best_mean_and_says_what_was_luck(repeated):
    printed = repeated.coarse.stdout
    assert "6 of 6 trials" in printed
    assert printed.count("at first, again") == 2
    assert "luck     the first scores of 2 trials were" in printed
    assert "folds    3 folds:" in printed
    assert "the 2 best trials of coarse again, with 3 other seeds each: 6 trainings" in repeated.coarse.stderr
    found = repeated.json("best", "coarse")
    assert len(found["repeated"]) == 2
    assert found["number"] == found["repeated"][0]["trial"]
    assert len(found["attributes"]["folds"]) == 3
    assert repeated.json("status", "coarse")["best"]["number"] == found["number"]


@pytest.mark.slow
def test_the_report_draws_the_intervals(repeated):
    repeated("report", "coarse", "-o", "report.html")
    page = (repeated.folder / "report.html").read_text()
    assert "The best trials again" in page
    assert "error_x" in page


def test_fine_goes_on_from_it_and_test_and_predict_find_its_weights(repeated):
    repeated("fine", "--from", "coarse", "--trials", "3")
    assert repeated.json("status", "fine")["repeated"] == []
    tested = repeated.json("test", "coarse")
    assert (tested["train_on_val"], tested["num_train"]) == (True, 90)
    repeated("best", "coarse", "--weights", "net")
    assert (repeated.folder / "net").is_dir()
