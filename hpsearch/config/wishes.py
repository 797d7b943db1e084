"""What people ask for that is not there, or is there under another name: what to do now. One table for all messages."""

from __future__ import annotations

import re
from typing import Any

OWN_NET = "MODULE:FUNCTION can return one, see docs/own-code.md"

KEYS = {
    r"checkpoint|fine_?tune\w*": "the keys are model.pretrained and model.weights, with model.name = torchvision:NAME",
    r"pretrained|weights|freeze": "the keys are model.pretrained, model.weights and model.freeze",
    r"class_?weights?|pos_weight": "the key is train.class_weights: none or balanced",
    r"balanced?|over_?sampl\w*|weighted_?sampler": "the keys are data.sampling and train.class_weights: balanced",
    r"metrics?|monitor|objective|score": "the key is train.metric: accuracy, macro_f1, loss, ...; or MODULE:FUNCTION",
    r"(n_|num_)?(k_?)?folds?|cv": "folds are not there yet; data.val holds images out, and each data.seed other ones",
    r"early_?stop\w*": "it is train.patience: epochs without a better value of train.metric",
    r"(lr_)?warm_?up\w*": "the key is train.warmup: epochs, in front of any schedule",
    r"(lr_)?scheduler?|decay": "the key is train.lr_schedule: exponential, step, cosine, one-cycle, ...",
    r"t_?0|t_?mult|(restart_)?period|cycle_?length": "the keys are train.lr_period and train.lr_period_factor, of sgdr",
    r"learning_?rate|eta|alpha": "the key is train.lr; its range is space.lr",
    r"l2|lambda|lambd|regularization": "the key is train.reg, or train.weight_decay with train.optimizer = 'adamw'",
    r"wd|decoupled_?decay": "the key is train.weight_decay, with train.optimizer = 'adamw'; or train.reg",
    r"gamma": "the key is train.lr_decay",
    r"beta_?1|mu": "the key is train.momentum, which is beta1 of adam, adamw, nadam and lion",
    r"(num_)?(hidden_)?(layers|units|neurons)(_sizes)?": "the key is model.hidden, as [100, 50]: units of each layer",
    r"(num_)?filters": "the key is model.channels, as [32, 64]: channels of each block of a convnet",
    r"drop(out_?rate|_rate)?": "the key is model.dropout",
    r"loss|criterion": "the loss is cross-entropy, with train.label_smoothing, train.focal and train.class_weights",
    r"mix_?up|cut_?mix|cut_?out|rand_?augment": "this augmentation is not there yet; data.augment has hflip and crop:N",
    r"(grad\w*_)?clip\w*|max_(grad_)?norm": "the key is train.clip_norm: the longest gradient",
    r"ema": "this is not there yet",
    r"gpus?|cuda": "the key is run.device, as cuda:0; the flag for several is --devices",
    r"(im(age|g)_?)?(size|shape)": "the key is data.size, for a folder of images",
    r"(val(idation)?_?)?(split|share|fraction)|validation": "the key is data.val: a share below 1, or a count",
    r"path|dir(ectory)?|root|folder": "the key is data.source, as folder:photos, csv:photos.csv or npz:images.npz",
    r"(n_|num_|max_)?(trials|evals|samples)|budget": "the keys are coarse.trials and fine.trials",
}
"""By the last part of a key, as a whole; the first that fits."""

VALUES = {
    "model.name": {
        r"res-?net-?(18|34|50)": "did you mean resnet with model.depth = {0}?",
        r"(wide_?)?res-?ne\w*\d+.*": "a resnet has model.depth 18, 34 or 50; others are torchvision:NAME or timm:NAME",
        r"cnn|conv": "did you mean convnet?",
        r"(logistic|softmax)\w*|perceptron": "did you mean linear?",
        r"(vgg|alexnet|densenet|mobilenet|efficientnet|convnext|inception|googlenet|vit|deit|swin)\w*([-:/].*)?": (
            "such nets are torchvision:NAME and timm:NAME, as torchvision:vgg16"
        ),
    },
    "train.optimizer": {
        r"rms[-_]prop": "did you mean rmsprop?",
        r"ada_grad": "did you mean adagrad?",
        r"ada(delta|max)|radam": "it is not there yet; adam is the nearest",
        r"lamb|lars|muon|shampoo|sophia|adafactor": "it is not there yet; adamw is the nearest",
    },
    "data.augment": {
        r"(horizontal_?)?flip|fliplr|mirror": "did you mean hflip?",
        r"crop|shift|translate": "did you mean crop:4, which shifts by up to 4 pixels?",
        r"vflip|flipud|rot\w*|colou?r\w*|jitter|\w*augment\w*|mix_?up|cut\w*|\w*eras\w*": "it is not there yet",
    },
    "train.lr_schedule": {
        r"none|fixed|const": "did you mean constant?",
        r"warm_?up\w*": "the key is train.warmup: epochs, in front of any schedule",
        r"one_?cycle(_?lr)?|super_?convergence|1cycle": "did you mean one-cycle?",
        r"cosine\w*restarts?|(warm_?)?restarts?": "did you mean sgdr, cosine with restarts by train.lr_period?",
        r"inv\w*sqrt|rsqrt|noam": "did you mean inverse-sqrt?",
        r"cosine\w+|half_?cosine": "did you mean cosine?",
        r"plateau|poly\w*|cyclic\w*|triangular\w*": "it is not there yet; cosine is the nearest",
        r"multi_?step": "did you mean step, with train.lr_step?",
    },
    "model.init": {
        r"kaiming\w*|msra": "did you mean he?",
        r"glorot\w*": "did you mean xavier?",
        r"(normal|gauss\w*|small)": "did you mean small:1e-2, normal with that standard deviation?",
    },
    "model.activation": {
        r"silu|swish|mish|leaky\w*|prelu|relu6|s?elu": "it is not there yet; relu and gelu are the nearest",
    },
    "train.metric": {
        r"(val_?)?acc|val_?accuracy|top_?1": "did you mean accuracy?",
        r"f1([_-]?(macro|score))*|macro-?f1|macro_?f1_?score": "did you mean macro_f1?",
        r"(macro[_-]?)?(roc[_-]?)?auc([_-]?roc)?([_-]?score)?": "did you mean auroc?",
        r"top[_-]5|top[_-]?5[_-]?acc(uracy)?": "did you mean top5?",
        r"balanced-?acc(uracy)?|(bal|balanced)_acc|macro[_-]?recall|uar": "did you mean balanced_accuracy?",
        r"val_?loss|nll|log[_-]?loss|(cross[_-]?)?entropy": "did you mean loss?",
        r"(cohen\w*[_-]?)?kappa|mcc|\w*precision\w*|\w*recall|(micro|weighted)[_-]?f1|brier\w*|ece|pr[_-]?auc": (
            "it is not there yet; MODULE:FUNCTION of (scores, labels) can compute it, see docs/own-code.md"
        ),
    },
    "train.precision": {r"(fp|float)_?16|half|amp|mixed|bf16": "did you mean bfloat16?"},
    "data.normalize": {
        r"imagenet\w*": "did you mean pretrained, with a net that has weights already?",
        r"z_?score|standard\w*|std|mean_?std": "did you mean channel, with mean and std of your images?",
        r"mean": "did you mean pixel, which subtracts the mean image?",
    },
    "coarse.sampler": {
        r"bayes\w*|smac|bohb": "did you mean tpe, or gp?",
        r"sobol|halton|lhs": "did you mean qmc?",
        r"hyperband|asha|median|successive\w*": "it is a pruner: coarse.pruner",
    },
}
"""By key, then by value, as a whole and in small letters; a group is put in place of {0}."""


SEARCHED = ("train", "model")  # tables whose keys can be hyperparameters


def wish_of_key(key: str) -> str | None:
    """What to do instead of setting a key that is not there; None where nobody knows what it may mean."""
    *sections, name = key.lower().split(".")
    if len(sections) > 1:  # data.synthetic.shape is no data.size
        return None
    return next((said for pattern, said in KEYS.items() if re.fullmatch(pattern, name)), None)


def wish_of_value(key: str, value: Any) -> str | None:
    """What to do instead of setting a key to a value that is not there."""
    if isinstance(value, list) and len(value) > 1 and {*map(type, value)} in ({float}, {int}, {float, int}, {str}):
        table, _, name = key.partition(".")
        choices = ", ".join(map(str, value))
        return f"several values are searched: --space '{name}=choice({choices})'" if table in SEARCHED else None
    if not isinstance(value, str):
        return None
    for pattern, said in VALUES.get(key.replace("fine.sampler", "coarse.sampler"), {}).items():
        if match := re.fullmatch(pattern, value.strip().lower()):
            return said.format(*match.groups())
    return None
