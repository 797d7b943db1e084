"""A worker: takes trials from the queue, trains them in packs, brings what it learns into the database."""
