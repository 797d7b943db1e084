"""Workers on a Ray cluster. Nothing outside this folder knows Ray."""
