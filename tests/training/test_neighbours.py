"""Neighbours on features, against all distances sorted by hand, and stage by stage against layers called by hand."""

import numpy as np
import pytest
import torch
from plain_training import make_config, make_data
from torchvision import models

from hpsearch.training.neighbours import NEIGHBOURS, look_at_neighbours, nearest_class

NAME = "shufflenet_v2_x0_5"


def by_hand(x_NF, y_N, x_VF):
    found = []
    for x_F in x_VF:
        near = x_NF @ x_F / np.linalg.norm(x_NF, axis=1) / np.linalg.norm(x_F)
        rows = np.argsort(-near)[:NEIGHBOURS]
        votes = {label: (sum(y_N[rows] == label), near[rows][y_N[rows] == label].sum()) for label in set(y_N[rows])}
        found.append(max(votes, key=votes.get))
    return found


def test_the_class_is_that_of_most_neighbours():
    random = np.random.default_rng(0)
    x_NF, x_VF, y_N = random.normal(size=(60, 4)), random.normal(size=(40, 4)), random.integers(0, 3, 60)
    found = nearest_class(torch.from_numpy(x_NF), torch.from_numpy(y_N), torch.from_numpy(x_VF), 3)
    assert found.tolist() == by_hand(x_NF, y_N, x_VF)
    few = nearest_class(torch.eye(2), torch.tensor([1, 0]), torch.tensor([[0.9, 0.1]]), 2)
    assert few.tolist() == [1]  # both are neighbours: the nearer one counts


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(getattr(models, NAME)().state_dict(), path)
    config = make_config()
    model = type(config.model)(name=f"torchvision:{NAME}", weights=str(path), features=2)
    return config.model_copy(update={"model": model})


def test_each_stage_is_looked_at(config):
    data = make_data(num_train=40, num_val=20, shape=(3, 32, 32), noise=2.0)
    found = look_at_neighbours(config, data, seconds=1e9)
    assert (found.num_train, found.num_val, found.guessing) == (40, 20, 0.25)
    assert list(found.accuracies) == [1, 2, 3, 4, "last"]  # whatever the head reads
    net = models.shufflenet_v2_x0_5()
    net.load_state_dict(torch.load(config.model.weights))
    net = net.double().eval()
    with torch.no_grad():
        stages = [torch.nn.Sequential(net.conv1, net.maxpool), net.stage2, net.stage3, net.stage4, net.conv5]
        train, val = data.x_train_NCHW, data.x_val_NCHW
        for name, stage in zip(found.accuracies, stages, strict=True):
            train, val = stage(train), stage(val)
            labels = by_hand(train.mean((2, 3)).numpy(), data.y_train_N.numpy(), val.mean((2, 3)).numpy())
            assert found.accuracies[name] == (np.array(labels) == data.y_val_N.numpy()).mean()


def test_a_slow_net_looks_at_fewer_images(config):
    data = make_data(num_train=40, num_val=20, shape=(3, 32, 32))
    found = look_at_neighbours(config, data, seconds=0)
    assert (found.num_train, found.num_val) == (8, 4)  # two and one of each class
