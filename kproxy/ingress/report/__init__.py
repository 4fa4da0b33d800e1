"""What the ingress program tells the world: health, metrics, the log, Events, and the status of objects."""
