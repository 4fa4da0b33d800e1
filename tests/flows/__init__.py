"""The table of flows: what Kubernetes promises of Services, as packets and where they end up. README.md tells how.

Nothing here names a backend: any way of carrying out a Plan must pass the same table.
"""
