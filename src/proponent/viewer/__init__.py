"""The web page that shows results, and the server that traces for it."""
