"""Names of what a stage keeps in the attributes of its study and of its trials.

Study attributes are sent whole with each refresh of the dashboard, so they stay at a few kB.
"""

from typing import Final

# of a study
STAGE = "hpsearch.stage"  # check, coarse, fine, compare or train
CONFIG = "hpsearch.config"  # the resolved study file
IDENTITY = "hpsearch.identity"  # what the fingerprint is taken of
FINGERPRINT = "hpsearch.fingerprint"
PROVENANCE = "hpsearch.provenance"  # where the ranges came from
DATASET = "hpsearch.dataset"  # shape, counts and class names of the images
COMPARISON = "hpsearch.comparison"  # name, sampler and repeat of a search that is one of many compared
VERSIONS = "hpsearch.versions"
PORTRAIT = "hpsearch.portrait"  # where the weights of the best trial are kept
CHECKS = "hpsearch.checks"  # what was found before the search
LEARNING = "hpsearch.learning"  # what an adaptive sampler knows when it proposes, as of the last start
ROUNDING = "hpsearch.rounding"  # of products and convolutions, where they have fewer digits than the numbers
FITTED = "hpsearch.fitted"  # what was asked for, of a stage made to fit a time
TAKES = "hpsearch.takes"  # what an objective is given by name: epochs, seed, ...
CALLED = "hpsearch.called"  # ranges of an Optuna objective's calls, each as it was named first
STOP = "hpsearch.stop"  # when all workers were asked to stop, on the database's clock
REPEATS = "hpsearch.repeats"  # the best trials, trained again with other seeds
TESTS = "hpsearch.tests"  # each use of the test set
TRAININGS = "hpsearch.trainings"  # of its trials, again, for ensembles: where the weights are
ENSEMBLE = "hpsearch.ensemble"  # the last one that was made of its trials, first or alone

# of a trial
REASON = "reason"  # why a trial ended before its time: exploded, stopped early, or the pruner's name
EPOCH = "epoch"  # where it stopped
STEP = "step"
COST = "cost"  # the cost that stopped it, and the first one; text where not finite
FIRST_COST = "first_cost"
BEST_EPOCH = "best_epoch"
LAST_VALUE = "last_val_acc"
LAST_SCORE = "last_value"  # the same of train.metric, where that is not the accuracy
BEST_ACC = "val_acc"  # of its best epoch, in the same case
PLAIN_VALUE = "plain_value"  # train.metric in its best epoch without train.ema, where that is used
FOLDS = "folds"  # of its best epoch, what counts on each fold of cross-validation
MEASURES = "measures"  # of its best epoch: accuracy, macro_f1, ... , where the weights of all trials are kept
TRACEBACK = "traceback"
TRIED_IN = "tried in"  # the earlier stage that had a trial of the same hyperparameters, which led
AGAIN = "again"  # the number of the trial whose hyperparameters this one calls again
PROPOSED = "proposed"  # what the sampler proposes for an Optuna objective, before that has asked for it
ENQUEUED = "enqueued"  # what it was given to try, where it was not drawn or proposed
CONTINUED = "continued"  # which trial of an earlier stage goes on here, from which epoch, and where its state is
WEIGHTS = "weights"  # file with the weights of its best epoch, where all are kept

EXPLODED = "exploded"
STOPPED_EARLY = "stopped early"  # by train.patience
HALVED = "halving"  # not among the best at a rung
SPENT = "epochs budget"  # no epoch was left for it
TRAIN: Final = "train"  # the kind of study whose trials have given values, and differ by their seed alone
