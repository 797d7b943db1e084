"""Images to train on: sources, splits, normalization, augmentation, batches on the device.

Import the modules by name: only `device` and `augmentation` need torch.
"""
