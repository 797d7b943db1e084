import json

import pytest

from benchmarks import engines


@pytest.fixture
def run(capsys):
    def measure(*options):
        engines.main(["--images", "300", "--rounds", "1", "--threads", "1", *options])
        return capsys.readouterr().out

    return measure


@pytest.mark.slow
def test_the_benchmark_of_engines_runs_and_names_its_peer(run):
    result = json.loads(run("--trials", "1", "2", "--json"))
    assert [(each["trials"], each["threads"]) for each in result["runs"]] == [(1, 1), (2, 1)]
    for each in result["runs"]:
        assert set(each["seconds_per_trial_and_50k_images"]) == {"plain", "loop", "vmap", "fused"}
        assert each["times_plain"]["plain"] == 1
        assert all(0 < share < 1.5 for share in each["share_of_peak"].values())


@pytest.mark.slow
def test_the_benchmark_of_engines_knows_lenet(run):
    names = ["plain", "fused", "fused-bfloat16"]
    (each,) = json.loads(run("--net", "lenet", "--trials", "2", "--engines", *names, "--json"))["runs"]
    assert list(each["times_plain"]) == names
    assert set(each["gflops_of_products"]) == {"square", "forward", "weight gradient"}
    assert all(0 < share < 3 for share in each["share_of_peak"].values())  # bfloat16 may pass float32's peak


@pytest.mark.slow
def test_the_benchmark_of_engines_prints_a_table(run):
    names = ["fused", "fused-bfloat16", "fused-best"]
    table = run("--trials", "2", "--engines", *names, "--net", "digits")
    assert [line.split()[0] for line in table.splitlines()[2:]] == names
