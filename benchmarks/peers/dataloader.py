"""Optuna with a DataLoader, in the manner of Optuna's own example for PyTorch: a loader, an objective, one process.

The images are those of a torchvision data set: bytes in memory, each one made a PIL image and transformed when it is
asked for. One thing differs from the example: the study is kept in SQLite.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

from benchmarks.peers.ended import Ended, of_study
from benchmarks.peers.trainable import make_net
from benchmarks.peers.work import Work


class ImagesOfFile(Dataset):
    """What torchvision's data sets do with the arrays they hold."""

    def __init__(self, path: str, transform) -> None:
        with np.load(path) as arrays:
            self.data, self.targets = arrays["x_train"], arrays["y_train"].tolist()
        self.transform = transform

    def __getitem__(self, index: int):
        image = Image.fromarray(self.data[index])
        return self.transform(image), self.targets[index]

    def __len__(self) -> int:
        return len(self.data)


def get_loaders(work: Work):
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))])
    images = ImagesOfFile(work.images, transform)
    num_train = len(images) - work.num_val
    train = Subset(images, range(num_train))
    valid = Subset(images, range(num_train, len(images)))
    return (
        DataLoader(train, batch_size=work.batch_size, shuffle=True),
        DataLoader(valid, batch_size=work.batch_size),
    )


def search(work: Work, folder: Path) -> Ended:
    device = torch.device(work.device)
    train_loader, valid_loader = get_loaders(work)

    def objective(trial: optuna.Trial) -> float:
        model = make_net(work).to(device)
        lr = trial.suggest_float("lr", *work.lr, log=True)
        reg = trial.suggest_float("reg", *work.reg, log=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=reg)
        best = 0.0
        for epoch in range(work.epochs):
            model.train()
            for data, target in train_loader:
                data, target = data.to(device), target.to(device)
                optimizer.zero_grad()
                loss = F.cross_entropy(model(data), target)
                loss.backward()
                optimizer.step()
            model.eval()
            correct = 0
            with torch.no_grad():
                for data, target in valid_loader:
                    data, target = data.to(device), target.to(device)
                    correct += (model(data).argmax(dim=1) == target).sum().item()
            accuracy = correct / work.num_val
            best = max(best, accuracy)
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return best

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=work.seed),
        pruner=optuna.pruners.NopPruner(),  # every trial is trained to its end, as by all the others
    )
    study.optimize(objective, n_trials=work.num_trials)
    return of_study(study)
