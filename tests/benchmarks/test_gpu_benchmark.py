import json
import logging
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import command, convolutions, memory, turns
from benchmarks.gpu.rows import Row, all_rows, compiled_net
from benchmarks.gpu.turns import Way, as_rows, in_turns
from benchmarks.gpu.work import SIZES, Bench
from hpsearch.errors import ConfigError, EngineError
from hpsearch.logs import get_logger
from hpsearch.training import recorded_steps
from hpsearch.training.fused import convolution_choice
from hpsearch.training.fused.convolution_choice import InTurn


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def small_bench(folder, seconds=60.0):
    return Bench(torch.device("cpu"), SIZES["smoke"], seconds, folder)


def ticks():
    return map(float, count()).__next__


@pytest.mark.slow
def test_ways_are_run_in_turns_and_the_first_run_is_not_counted():
    order = []

    def way(name, *seconds, **about):
        left = iter(seconds)
        return Way(name, lambda: lambda: order.append(name) or next(left), **about)

    found = in_turns([way("peer", 9, 4, 2, 3, is_peer=True), way("ours", 9, 4, 4, 5, width=4)], 3, ticks())
    assert order == ["peer", "ours"] * 4
    peer, ours = as_rows("row", found)
    assert (peer["median"], peer["fastest"], peer["slowest"], peer["repetitions"]) == (3, 2, 4, 3)
    assert (ours["median"], ours["times_as_fast"], ours["start_seconds"]) == (4, 3.0, 1.0)


@pytest.mark.slow
def test_a_way_that_fails_says_why_and_the_others_are_measured():
    def cannot():
        raise EngineError("it does not\nrun here")

    def once():
        left = iter([1.0])
        return lambda: next(left)

    def warns():
        get_logger("training").warning("it goes on as another")
        return lambda: 1.0

    ways = [Way("cannot", cannot), Way("warns", warns), Way("once", once), Way("exits", lambda: sys.exit("its log"))]
    cannot_, warned, once_, exits = as_rows("row", in_turns(ways, 2, ticks()))
    assert cannot_["refused"] == "EngineError: it does not run here"
    assert (warned["repetitions"], warned["notes"], warned["refused"]) == (2, ["it goes on as another"], None)
    assert once_["refused"].startswith("StopIteration")
    assert once_["repetitions"] == 0
    assert exits["refused"] == "SystemExit: its log"
    assert not any(isinstance(each, turns._Notes) for each in logging.getLogger("hpsearch").handlers)


def test_a_limit_holds_while_a_way_is_made_and_run_and_no_longer(tmp_path):
    seen = []

    def look():
        seen.append(recorded_steps.MAX_STEPS)
        return 1.0

    def make():
        look()
        return look

    way = small_bench(tmp_path).limited(Way("graph", make), "one step", recorded_steps, "MAX_STEPS", 1)
    run = way.make()
    assert recorded_steps.MAX_STEPS > 1
    assert (way.name, run(), run(), seen) == ("one step", 1.0, 1.0, [1, 1, 1])
    assert recorded_steps.MAX_STEPS > 1


@pytest.mark.slow
def test_rows_of_a_user_net_on_a_cpu(tmp_path, capsys):
    file = tmp_path / "found.json"
    only = "vit-float32,memory,command,compiled-vit-float32"
    command.main(["--device", "cpu", "--seconds", "30", "--only", only, "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["machine"]["versions"]["torch"]
    assert {"cuda", "driver", "tf32_in_convolutions", "cores", "gpu"} <= set(found["machine"])
    assert found["command"].startswith("python -m benchmarks gpu --device cpu")
    measured = {(row["row"], row["way"], row.get("width")) for row in found["rows"] if row["repetitions"]}
    assert {("vit-float32", "expert", 1), ("vit-float32", "loop", 1), ("vit-float32", "loop", 2)} <= measured
    refused = {row["row"]: row["refused"] for row in found["rows"] if row["refused"]}
    assert "does not run on cpu" in refused["vit-float32"]
    assert "counted on CUDA" in refused["memory"]
    assert "left out" in refused["command"]
    printed = capsys.readouterr().out
    assert "its numbers mean nothing" in printed
    assert "memory (loop, graph): memory is counted on CUDA, not on cpu" in printed


@pytest.mark.slow
def test_a_row_that_fails_loses_no_other_and_each_is_written_at_once(tmp_path, monkeypatch):
    file = tmp_path / "found.json"
    seen = []

    def good(_bench):
        seen.append(len(json.loads(file.read_text())["rows"]) if file.exists() else 0)
        return [{"row": "good", "way": "w", "repetitions": 0, "refused": None, "notes": []}]

    def bad(_bench):
        raise RuntimeError("an illegal access")

    rows = [Row("a", "", good, 0.0), Row("b", "", bad, 0.0), Row("c", "", good, 0.0)]
    monkeypatch.setattr(command, "all_rows", lambda: rows)
    command.main(["--device", "cpu", "--json", str(file)])
    assert seen == [0, 2]
    assert [row["refused"] for row in json.loads(file.read_text())["rows"]] == [
        None, "RuntimeError: an illegal access", None,
    ]  # fmt: skip


def test_what_a_lost_gpu_leaves_is_measured_by_a_new_process(tmp_path, monkeypatch):
    rows = [Row(name, "", lambda _bench: [], 0.0) for name in ("a", "b", "c")]
    given = SimpleNamespace(device="cpu", sizes="smoke", json=None)

    def started(asked, **_options):
        assert asked[asked.index("--only") + 1] == "b,c"
        line = {"row": "b", "way": "w", "repetitions": 1, "refused": None, "notes": []}
        Path(asked[asked.index("--json") + 1]).write_text(json.dumps({"rows": [line]}))
        return SimpleNamespace(returncode=-11)

    monkeypatch.setattr(command, "is_lost", lambda _device: True)
    monkeypatch.setattr(subprocess, "run", started)
    found = {"rows": []}
    command.run(small_bench(tmp_path), rows, found, given)
    assert [(row["row"], row["refused"]) for row in found["rows"]] == [
        ("b", None), ("c", "the process that should measure it ended with -11"),
    ]  # fmt: skip


def test_rows_are_chosen_by_name_or_by_family():
    names = [row.name for row in command.choose_rows("resnet,lenet")]
    assert names == ["lenet", "resnet-bfloat16", "resnet-float32"]
    assert command.choose_rows(None)[0].name == "reference-steps"
    assert len({row.name for row in all_rows()}) == len(all_rows())
    with pytest.raises(ConfigError, match="--only alexnet is not a row"):
        command.choose_rows("lenet,alexnet")


@pytest.mark.slow
def test_where_torch_compile_fails_the_row_says_so(tmp_path, monkeypatch):
    def fails(*_arguments, **_options):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fails)
    expert, compiled, graph = compiled_net("vit", "float32", small_bench(tmp_path))
    assert expert["repetitions"] > 0
    assert compiled["refused"] == "RuntimeError: no compiler"
    assert "does not run on cpu" in graph["refused"]


@pytest.mark.slow
def test_convolutions_are_timed_in_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(convolution_choice.BatchedConvolution, "_kernels", property(lambda _self: 1 / 0))
    lines = convolutions.layers_of(small_bench(tmp_path), "lenet", "bfloat16")
    assert [line["way"] for line in lines] == [f"lenet {n}: {way}" for n in (1, 2) for way in ("operators", "kernels")]
    assert {(line["row"], line["precision"], line["width"]) for line in lines} == {("convolutions", "bfloat16", 4)}
    assert [line["repetitions"] for line in lines] == [1, 0, 1, 0]
    assert [line["refused"] for line in lines[1::2]] == ["ZeroDivisionError: division by zero"] * 2


@pytest.mark.slow
def test_kernels_of_another_outcome_are_not_timed(tmp_path, monkeypatch):
    class Wrong(InTurn):
        def __init__(self, run):
            super().__init__([run.conv])

    monkeypatch.setattr(convolution_choice, "BatchedConvolution", Wrong)
    lines = convolutions.layers_of(small_bench(tmp_path), "own convnet", "float32")
    refused = "EngineError: its outcome is another than that of operators"
    assert [line["refused"] for line in lines] == [None, refused] * 2


def test_the_widest_pack_is_predicted_and_then_looked_for():
    assert memory.predict({1: 30, 8: 100}, 190) == 17
    assert memory.predict({1: 30, 8: 100}, 50) == 8  # it was seen
    asked = []
    assert memory.find_widest(lambda width: asked.append(width) or width <= 70, 128, 8) == 64
    assert asked == [128, 102, 81, 64]
    assert memory.find_widest(lambda _width: None, 128, 8) == 8  # no time to see
    assert memory.find_widest(lambda _width: False, 12, 8) == 8


def test_memory_is_told_at_two_widths_and_at_the_widest_that_fits(tmp_path, monkeypatch):
    def peak(_bench, engine, precision, width):
        if width > 40:
            raise EngineError(f"engine {engine} cannot train model resnet in {precision}: CUDA out of memory")
        return memory.Peak(width << 29, width << 30, 0.01)

    monkeypatch.setattr(memory, "_peak", peak)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (80 << 30, 80 << 30))
    bench = small_bench(tmp_path)
    bench.sizes = replace(bench.sizes, widths=(1, 4, 8), most_width=128)
    *narrow, widest = memory._lines(bench, "graph", "float32")
    assert [(line["width"], line["peak_reserved_gib"]) for line in narrow] == [(1, 1.0), (8, 8.0)]
    assert (widest["predicted_widest"], widest["widest_seen"], widest["peak_allocated_gib"]) == (76, 38, 19.0)
    assert widest["notes"] == ["by its growth 76 fit; the widest that was seen to fit is 38"]
    monkeypatch.setattr(memory, "_peak", lambda *_: 1 / 0)
    (line,) = memory._lines(bench, "graph", "float32")
    assert line["refused"] == "ZeroDivisionError: division by zero"


def test_an_engine_may_say_in_its_own_words_that_memory_is_missing():
    assert memory.ran_out(torch.OutOfMemoryError("no"))
    assert memory.ran_out(EngineError("engine graph cannot train model resnet: CUDA out of memory. Tried"))
    assert not memory.ran_out(EngineError("it waits for the device"))


@pytest.mark.slow
def test_all_rows_but_those_of_torch_compile(tmp_path):
    """Which takes a minute for a net, and is seen to be left out above."""
    file = tmp_path / "found.json"
    names = [row.name for row in all_rows() if not row.name.startswith("compiled")]
    command.main(["--device", "cpu", "--seconds", "300", "--only", ",".join(names), "--json", str(file)])
    found = json.loads(file.read_text())
    assert {row["row"] for row in found["rows"]} == set(names)
    measured = {row["row"] for row in found["rows"] if row["repetitions"]}
    assert {"command", "lenet"} <= measured  # the others as far as the time goes on a busy machine
    reference = [row for row in found["rows"] if row["row"].startswith("reference")]
    assert all(row["seconds_of_search"] > 0 for row in reference)
    assert sum(row.get("is_default", False) for row in reference) == 1
    assert sum(row.get("is_best", False) for row in reference) == 1
