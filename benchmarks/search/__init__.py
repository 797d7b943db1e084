"""Searches beside those of other programs, at equal trials and equal epochs: surfaces and recorded trainings."""
