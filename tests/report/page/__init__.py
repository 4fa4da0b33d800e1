"""The page of the metrics server."""
