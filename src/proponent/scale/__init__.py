"""How large work is done, and what it costs."""
