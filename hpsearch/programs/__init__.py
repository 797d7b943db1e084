"""Functions and programs of the user's own that are searched over: called in a process of their own."""
