"""The ingress program."""
