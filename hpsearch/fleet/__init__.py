"""Several workers on one stage: started, watched, replaced when they die; as processes here or on a Ray cluster."""
