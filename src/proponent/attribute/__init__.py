"""From a query to its proponents and opponents."""
