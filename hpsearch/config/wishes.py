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
    r"(n_|num_)?(k_?)?folds?|cv": "the key is data.folds: so many folds of cross-validation",
    r"repeats?|rerun\w*|retrain\w*|confirm\w*": "the keys are coarse.repeat_best and fine.repeat_best; "
    "where trials call an [objective], coarse.confirm and fine.confirm",
    r"early_?stop\w*": "it is train.patience: epochs without a better value of train.metric",
    r"(lr_)?warm_?up\w*": "the key is train.warmup: epochs, in front of any schedule",
    r"ema(_?decay)?|swa|polyak\w*|(weight_?)?averag\w*": "the key is train.ema: the decay of the average, as 0.999",
    r"(grad\w*_)?accum\w*(_steps|_grad\w*|_batches)?": "the key is train.accumulate: minibatches of an update",
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
    r"drop_?connect\w*|weight_?drop\w*": "the key is model.dropconnect",
    r"(stoch\w*_?depth|drop_?path|layer_?drop)\w*": "the key is model.stochastic_depth, of a resnet",
    r"(layer|instance|group|weight)_?norm|normali[sz]ation|norm_?layer": (
        "the key is model.norm: none, batch, layer, instance or group"
    ),
    r"(kernel|filter)_?(size|width|side)s?": "the key is model.kernel, as 3, or [5, 3] for two blocks of a convnet",
    r"factori[sz]\w*|asymmetric\w*|separable\w*": "the key is model.factor: N x 1 and 1 x N in place of N x N",
    r"strides": "the key is model.stride, of each block's last convolution",
    r"(max_?|avg_?|average_?)?pool(ing|_?kind|_?type)s?": "the key is model.pool: max, average or none",
    r"bias_?(init|std|scale)": "the key is model.init_bias, a standard deviation",
    r"(\w*_)?loss(_?fn|_?function|_?fct)?|criterion|objective_function": (
        "the key is train.loss: cross-entropy, squared or hinge, with train.label_smoothing and train.focal; "
        "another one is that of train.step"
    ),
    r"(knowledge_?)?distillation\w*|teacher_\w+|kd(_\w+)?|soft_?(labels|targets)": (
        "the keys are train.teacher, a folder of a trained net, and train.distill, its share of the loss"
    ),
    r"mix_?up|cut_?mix|cut_?out|(rand|auto|trivial)_?augment|augment\w*|[hv]flip": (
        "the key is data.augment, as ['hflip', 'crop:4', 'mixup:0.2']"
    ),
    r"(grad\w*_)?clip\w*|max_(grad_)?norm": "the key is train.clip_norm: the longest gradient",
    r"gpus?|cuda": "the key is run.device, as cuda:0; the flag for several is --devices",
    r"(im(age|g)_?)?(size|shape)": "the key is data.size, for a folder of images",
    r"(val(idation)?_?)?(split|share|fraction)|validation": "the key is data.val: a share below 1, or a count",
    r"path|dir(ectory)?|root|folder": "the key is data.source, as folder:photos, csv:photos.csv or npz:images.npz",
    r"(n_|num_|max_)?(trials|evals|samples)|budget": "the keys are coarse.trials and fine.trials",
}
"""By the last part of a key, as a whole; the first that fits."""

VALUES = {
    "model.name": {
        r"(?:preact_?)?res-?net-?(8|14|18|20|32|34|44|50|56|101|152)": "did you mean resnet with model.depth = {0}?",
        r"(wide_?)?res-?ne\w*\d+.*": "a resnet has model.depth 18, 20, 34, ...; others: torchvision:NAME, timm:NAME",
        r"vgg-?(11|13|16|19)(?:_bn)?": "did you mean vgg with model.depth = {0}?",
        r"cnn|conv": "did you mean convnet?",
        r"all_?conv\w*|all-cnn\w*": "did you mean convnet with model.stride = 2 and model.pool = 'none'?",
        r"(logistic|softmax)\w*|perceptron": "did you mean linear?",
        r"(vgg\w|alexnet|densenet|mobilenet|efficientnet|convnext|inception|googlenet|vit|deit|swin)\w*([-:/].*)?": (
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
        r"(vertical_?)flip|flipud": "did you mean vflip?",
        r"crop|shift": "did you mean crop:4, which shifts by up to 4 pixels?",
        r"rot\w*": "did you mean rotate:10, which turns by up to 10 degrees?",
        r"random_?resized_?crop|zoom|scale": "did you mean scale:0.5, which shows half of the area or more?",
        r"colou?r\w*|jitter(:.*)?": "did you mean brightness:0.4, contrast:0.4 and saturation:0.4?",
        r"\w*eras\w*(:.*)?|cut_?out": "did you mean cutout:8, a square of 8 pixels?",
        r"mix_?up": "did you mean mixup:0.2?",
        r"cut_?mix": "did you mean cutmix:1?",
        r"auto_?augment\w*": "did you mean autoaugment:cifar10?",
        r"rand_?augment": "did you mean randaugment:2,9?",
        r"blur\w*|\w*blur|shear\w*|perspective|grayscale|solarize|posterize|equalize|invert|sharpness|augmix\w*": (
            "it is not there by itself; randaugment and trivialaugment have most of those"
        ),
    },
    "train.loss": {
        r"ce|nll(_?loss)?|log_?loss|softmax|cross_?entropy(_?loss)?|categorical_?cross_?entropy": (
            "did you mean cross-entropy?"
        ),
        r"mse(_?loss)?|l2|square|(mean_?)?squared_?error|brier": "did you mean squared?",
        r"svm|(multi_?)?margin(_?loss)?|(multi_?class_?)?hinge_?loss|weston\w*": "did you mean hinge?",
        r"focal(_?loss)?": "the key is train.focal: the gamma of the focal loss, as 2",
        r"squared_?hinge|l1|mae|huber|smooth_?l1|b_?ce|arc_?face|poly\w*|kl\w*": (
            "it is not there; cross-entropy, squared and hinge are"
        ),
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
        r"(kaiming|msra)[-_]?uniform|he_?uniform": "did you mean he-uniform?",
        r"(kaiming|msra)[-_]?(fan[-_]?)?out|he_?(fan[-_]?)?out": "did you mean he-out?",
        r"(kaiming|msra)[-_]?(fan[-_]?)?avg|(he[-_]?)?fan[-_]?avg|he[-_]?mean": "did you mean he-avg?",
        r"kaiming\w*|msra\w*|he[-_]?normal": "did you mean he?",
        r"glorot[-_]?uniform|xavier_?uniform": "did you mean xavier-uniform?",
        r"glorot\w*|xavier[-_]?normal": "did you mean xavier?",
        r"ortho|saxe": "did you mean orthogonal?",
        r"lecun(-|_|19|-19)98": "did you mean lecun98?",
        r"(normal|gauss\w*|small)": "did you mean small:1e-2, normal with that standard deviation?",
    },
    "model.activation": {
        r"swish": "did you mean silu?",
        r"leaky(-?relu)?": "did you mean leaky_relu?",
        r"linear|identity": "did you mean none?",
        r"mish|relu6|[pr]relu|[sc]elu|hard\w*|soft\w*": "it is not there yet; leaky_relu, elu, silu are the nearest",
    },
    "model.norm": {
        r"batch_?norm(alization)?|bn": "did you mean batch?",
        r"layer_?norm(alization)?|ln": "did you mean layer?",
        r"instance_?norm(alization)?|in": "did you mean instance?",
        r"group_?norm(alization)?|gn": "did you mean group, with model.groups?",
    },
    "model.pool": {
        r"avg|mean|average_?pool\w*|avg_?pool\w*": "did you mean average?",
        r"max_?pool\w*": "did you mean max?",
        r"strides?|strided": "model.stride = 2 with model.pool = 'none' has strides for pools",
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
    "train.precision": {
        r"bf16": "did you mean bfloat16?",
        r"fp_?16|float_16|half|amp|mixed\w*": "did you mean bfloat16, or float16 for a GPU without it?",
    },
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
