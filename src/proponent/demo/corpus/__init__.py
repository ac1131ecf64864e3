"""A corpus of known facts, generated: what the demo trains on, indexes and traces."""

from proponent.demo.corpus.drawing import DemoCorpus, generate

__all__ = ["DemoCorpus", "generate"]
