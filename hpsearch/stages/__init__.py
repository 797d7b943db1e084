"""A stage: what it is before anything is written, who proposes its trials, how its study is opened and found again."""
