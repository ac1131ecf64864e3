"""A corpus becomes a run: planned shards, pure tasks, and what runs them."""
