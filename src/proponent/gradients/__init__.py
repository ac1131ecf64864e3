"""Where a model meets text: layers, capture, projection, second moments and influence features."""
