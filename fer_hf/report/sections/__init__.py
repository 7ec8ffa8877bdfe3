"""The sections of a run's page. Each is a function that yields blocks from a `Material` and may fail alone."""
