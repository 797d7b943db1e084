"""A study as the runs of other programs: MLflow, TensorBoard, tables as those of Weights & Biases."""
