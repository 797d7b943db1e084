from recorded_steps import rehearsed
from tiny_searches import db, in_an_empty_folder, tiny

__all__ = ["db", "in_an_empty_folder", "rehearsed", "tiny"]
