"""How a stage is trained here, and how long that takes: engine, width, precision, workers and threads."""
