"""A corpus of known facts, generated: what the demo trains on, indexes and traces."""
