"""Where objects come from: the API server, or a folder of manifests.

``types`` holds the objects themselves and is all that the rest of kproxy knows of this package; ``decode`` makes them
from bytes; ``client`` and ``reflector`` speak to the API server; ``manifests`` reads files.
"""
