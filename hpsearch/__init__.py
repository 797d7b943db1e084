"""hpsearch: hyperparameter search for PyTorch image classifiers, from coarse to fine."""

__version__ = "0.1.0"
