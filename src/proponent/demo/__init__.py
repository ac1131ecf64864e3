"""The demo: a corpus of real facts, a model trained on it, and the whole way from text to attribution."""
