from tiny_searches import db, in_an_empty_folder, tiny

__all__ = ["db", "in_an_empty_folder", "tiny"]
