"""What every stage costs, from shapes alone, and what any method would have to spend."""
