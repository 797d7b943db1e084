"""A search as it is asked for: stages run whole, checks, the procedure, comparisons, reruns, the test set."""
