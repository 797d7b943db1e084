import copy
import importlib.util
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import benchmarks.__main__
from benchmarks.peers import comparison, dataloader, ray_tune
from benchmarks.peers.ended import Ended, extrapolate
from benchmarks.peers.step import Step
from benchmarks.peers.trainable import initialize, lenet, load, make_net, mlp, train
from benchmarks.peers.ways import VARIANTS, Timed
from benchmarks.peers.work import (
    MODELS,
    Work,
    flop_per_sample,
    multiplications,
    num_parameters,
    write_first_images,
    write_random_images,
)
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError, MissingExtraError
from hpsearch.models import num_multiplications

ROOT = Path(__file__).parents[2]
NO_RAY_TUNE = any(importlib.util.find_spec(name) is None for name in ("ray", "pandas", "pyarrow", "tensorboardX"))
PEAKS = ("gemm_gflops", "copy_gb_s")
SMALL = ["--trials", "3", "--epochs", "1", "--images", "300", "--rounds", "1", "--peer-trials", "2"]


def run(*options):
    command = [sys.executable, "-m", "benchmarks", "peers", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def small_work(folder, model="mlp", **changes):
    images = folder / "images.npz"
    write_random_images(images, 300)
    given = {"images": str(images), "num_val": 20, "epochs": 1, "num_trials": 2, "num_processes": 2}
    return Work(model=model, **{**given, **MODELS[model], **changes})


@pytest.mark.slow
def test_hpsearch_and_its_peers_in_one_run(tmp_path):
    names = ["hpsearch", "hpsearch-float32", "optuna-dataloader", "optuna-expert"]
    files = ["--json", str(tmp_path / "found.json"), "-o", str(tmp_path / "page.html")]
    done = run(*SMALL, "--only", ",".join(names), *files)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["ways"]) == names
    ours = found["ways"]["hpsearch"]
    assert ours["extrapolated"] is None is found["ways"]["hpsearch-float32"]["extrapolated"]
    assert ours["times_hpsearch"] == 1
    for name in names[2:]:
        way = found["ways"][name]
        assert way["extrapolated"] == "from 2 of 3 trials"
        assert way["seconds"] > way["seconds_run"] > way["startup_seconds"] > 0
        assert way["times_hpsearch"] == pytest.approx(way["seconds"] / ours["seconds"])
    work = found["work"]
    gflop = 617_400e-9 * 3 * work["training_images"]
    for way in found["ways"].values():
        assert way["trials_per_hour"] == pytest.approx(3 * 3600 / way["seconds"])
        assert way["gflops"] == pytest.approx(gflop / way["seconds"])
        assert way["share_of_gemm"] == pytest.approx(way["gflops"] / found["peaks"]["gemm_gflops"], rel=0.01)
    assert found["machine"]["cores"] >= 1
    assert {"torch", "optuna", "python"} <= set(found["machine"]["versions"])
    assert all(name in done.stdout for name in names)
    html = (tmp_path / "page.html").read_text()
    assert "Plotly.newPlot" in html
    assert "<script src" not in html  # plotly.js stands in the page itself


@pytest.mark.skipif(NO_RAY_TUNE, reason="ray[tune] is not installed")
@pytest.mark.slow
def test_ray_tune_beside_them(tmp_path):
    run(*SMALL, "--only", "ray-tune,ray-tune-reuse", "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["ways"]) == ["ray-tune", "ray-tune-reuse"]
    assert all(0 < way["best_val_acc"] <= 1 for way in found["ways"].values())


def test_without_ray_tune_the_others_run_and_the_reason_is_said(monkeypatch):
    def missing():
        raise MissingExtraError("the peer ray-tune", "ray[tune]", "bench")

    monkeypatch.setattr(ray_tune, "require", missing)
    names, skipped = comparison.choose_ways(None)
    assert names == ["hpsearch", "hpsearch-float32", "optuna-dataloader", "optuna-expert"]
    assert 'pip install "hpsearch[bench]"' in skipped["ray-tune"]
    with pytest.raises(MissingExtraError, match="bench"):
        comparison.choose_ways(["hpsearch", "ray-tune"])


def test_an_unknown_way_is_refused_with_those_there_are(monkeypatch, capsys):
    with pytest.raises(ConfigError, match="optuna-dataloader"):
        comparison.choose_ways(["grid"])
    monkeypatch.setattr(sys, "argv", ["benchmarks", "peers", "--only", "grid"])
    with pytest.raises(SystemExit, match="2"):
        benchmarks.__main__.main()
    assert "Allowed: hpsearch" in capsys.readouterr().err


def test_what_is_paid_once_is_not_extrapolated():
    # Two processes: 10 s of start, then pairs of trials every 2 s, 1 s to end.
    ended = [112.0, 112.0, 114.0, 114.0]
    assert extrapolate(15.0, ended, 2, 4) == 15.0
    assert extrapolate(15.0, ended, 2, 100) == 15.0 + 96 * 1.0
    assert extrapolate(15.0, ended[:2], 2, 4) == 30.0  # nothing else is known


def test_the_formula_counts_the_reference_net():
    assert flop_per_sample("mlp") == 617_400
    assert num_parameters("mlp") == 154_160


@pytest.mark.parametrize(("model", "make"), [("mlp", lambda: mlp(3072, 50)), ("lenet", lenet)])
def test_multiplications_and_parameters_are_those_of_the_net(model, make):
    net, counted = make(), []

    def count(layer, _inputs, output):
        counted.append(output[0].numel() * layer.weight[0].numel())

    for layer in net:
        if hasattr(layer, "weight"):
            layer.register_forward_hook(count)
    net(torch.zeros(1, 3, 32, 32))
    assert counted == multiplications(model)
    assert sum(p.numel() for p in net.parameters()) == num_parameters(model)


@pytest.mark.parametrize("model", ["resnet", "vit"])
def test_multiplications_and_parameters_of_large_nets_are_those_of_the_experts(tmp_path, model):
    net = make_net(small_work(tmp_path, model))
    first = next(layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d))
    counted = []
    first.register_forward_hook(lambda layer, _x, y: counted.append(y[0].numel() * layer.weight[0].numel()))
    total = num_multiplications(net, (3, 32, 32))
    assert multiplications(model) == [counted[0], total - counted[0]]
    assert num_parameters(model) == sum(p.numel() for p in net.parameters())


def test_a_step_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    net, x, y = lenet(), torch.randn(6, 3, 32, 32), torch.arange(6)
    plain = copy.deepcopy(net)
    step = Step(net, "cpu", lr=0.1, reg=0.01)
    for _ in range(2):
        step(step.placed(x), y)
    momenta = [torch.zeros_like(p) for p in plain.parameters()]
    for _ in range(2):
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(plain(x), y), list(plain.parameters()))
        with torch.no_grad():
            for p, g, v in zip(plain.parameters(), gradients, momenta, strict=True):
                v.mul_(0.9).add_(g + 0.01 * p * (p.ndim > 1))
                p -= 0.1 * v
    for ours, expected in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_an_epoch_has_each_image_once_in_the_order_of_memory_of_the_net():
    step = Step(lenet(), "cpu", lr=0.1, reg=0.0)
    x = step.placed(torch.randn(7, 3, 32, 32))
    batches = list(step.batches(x, torch.arange(7), 3))
    assert [len(y) for _, y in batches] == [3, 3, 1]
    assert sorted(torch.cat([y for _, y in batches]).tolist()) == list(range(7))
    for images, labels in batches:
        assert torch.equal(images, x[labels])
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("model", "precision"), [("resnet", "float32"), ("vit", "bfloat16")])
def test_the_experts_trial_trains_large_nets(tmp_path, model, precision):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=images, y_train=np.arange(24) % 10)
    small = {"width": 16, "depth": 1, "heads": 2} if model == "vit" else {}
    work = small_work(tmp_path, model, images=str(tmp_path / "small.npz"), num_val=4, batch_size=10, options=small)
    reported = []
    train(replace(work, precision=precision), load(work), 1e-3, 1e-4, lambda *given: reported.append(given))
    assert [epoch for epoch, _ in reported] == [1]


def test_a_users_net_is_named_in_the_study_file(tmp_path):
    work = small_work(tmp_path, "vit", options={"width": 16, "heads": 2})
    model = load_settings(document=tomllib.loads(work.study_file())).study.model
    assert (model.name, dict(model.options)) == ("benchmarks.nets:vit", {"width": 16, "heads": 2})
    work.save(tmp_path / "work.json")
    assert Work.load(tmp_path / "work.json") == work


def test_large_nets_have_the_experts_variants_beside_them():
    assert set(VARIANTS) <= set(comparison.choose_ways(None, "resnet")[0])
    assert not set(VARIANTS) & set(comparison.choose_ways(None, "lenet")[0])


def test_a_variant_that_cannot_be_had_is_left_out_and_the_reason_said(monkeypatch, tmp_path):
    def run_way(name, work, *_):
        if name == "optuna-expert-compiled":
            raise SystemExit("it failed (1):\nTraceback\nRuntimeError: no compiler")
        return Timed(0.0, 3.0, Ended(1.0, [2.0, 3.0], [0.1, 0.2]))

    monkeypatch.setattr(comparison, "run_way", run_way)
    peaks = SimpleNamespace(measure=lambda: None, gflops=1.0, gb_s=1.0, as_dict=lambda: dict.fromkeys(PEAKS, 1.0))
    monkeypatch.setattr(comparison.machine, "Peaks", lambda _device: peaks)
    options = ["--model", "vit", "--trials", "2", "--images", "300", "--rounds", "2"]
    names = ["hpsearch", "optuna-expert", "optuna-expert-compiled"]
    comparison.main([*options, "--only", ",".join(names), "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["ways"]) == names[:2]
    assert found["skipped"] == {"optuna-expert-compiled": "RuntimeError: no compiler"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_the_experts_trial_learns(tmp_path, model):
    work = small_work(tmp_path, model, lr=(1e-4, 1e-2))
    torch.manual_seed(0)
    data = load(work)
    y_train = data[1]
    x_train = data[0] + 60 * work.scale / 255 * y_train[:, None, None, None]  # a brighter image is another class
    reported = []
    rate = 1e-4 if model == "mlp" else 1e-2
    longer = Work(**{**work.__dict__, "epochs": 30, "lr_decay": 1.0})
    best = train(longer, (x_train, y_train, x_train, y_train), rate, 1e-5, lambda *given: reported.append(given))
    assert [epoch for epoch, _ in reported] == list(range(1, 31))
    assert best == max(accuracy for _, accuracy in reported) > 0.3


def test_the_expert_starts_and_normalizes_as_the_study_file_says(tmp_path):
    work = small_work(tmp_path)
    x_train, y_train, x_val, _ = load(work)
    assert (len(x_train), len(y_train), len(x_val)) == (280, 280, 20)
    assert x_train.mean(dim=0).abs().max() < 1e-3
    assert 60 < x_train.std() < 90  # bytes of 0 ... 255
    net = mlp(3072, 50)
    initialize(net, work.init)
    assert net[1].weight.std().item() == pytest.approx(1e-4, rel=0.05)
    assert not net[1].bias.any()


def test_the_loader_gives_what_the_file_holds(tmp_path):
    work = small_work(tmp_path)
    train_loader, valid_loader = dataloader.get_loaders(work)
    assert len(train_loader.dataset) == 280
    [(x, y)] = list(valid_loader)
    with np.load(work.images) as arrays:
        expected = (arrays["x_train"][-20:].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
        assert y.tolist() == arrays["y_train"][-20:].tolist()
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)


def test_real_images_are_cut_to_the_number_wanted(tmp_path):
    write_random_images(tmp_path / "all.npz", 50)
    with np.load(tmp_path / "all.npz") as arrays:
        first = arrays["x_train"].transpose(0, 3, 1, 2)
        np.savez(tmp_path / "first.npz", x_train=first, y_train=arrays["y_train"])
        assert write_first_images(tmp_path / "cut.npz", tmp_path / "first.npz", 30) == 30
        with np.load(tmp_path / "cut.npz") as cut:
            np.testing.assert_array_equal(cut["x_train"], arrays["x_train"][:30])
