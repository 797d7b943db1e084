"""What to know before a search: does the net learn at all, and between which learning rates.

`gates`, `overfit` and `learning_rate` train and measure, `findings` says what came out, `study` keeps it, `gate` lets a
search in.
"""
