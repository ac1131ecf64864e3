"""The paper's tables and figures, each a function of a study: one run, its facts, and a cache on disk."""
