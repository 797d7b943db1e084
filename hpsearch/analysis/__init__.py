"""What the trials of a study say: who is best, what their curves mean, whether to search on. Imports no torch."""
