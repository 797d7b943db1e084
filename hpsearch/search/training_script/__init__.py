"""The script that trains a search's winner without hpsearch: what one would have written by hand for this net."""

from hpsearch.search.training_script.script import training_script

__all__ = ["training_script"]
