"""Where objects come from: the API server, or a folder of manifests.

``types`` holds the objects themselves, ``kinds`` the table of their kinds, and ``sink`` what sources and receivers
agree on; the rest of kproxy needs to know no more. Read on from either end:

* ``watch``: lists and watches at the API server, and ``transport``, the way there: addresses, proxies, credentials.
* ``folder`` → ``manifests`` → ``yamlreader``: files.

Both decode with ``decode`` (``wire``: lists and events; ``tolerant``: what is malformed), leave out by ``selection``
what is no business of this node's proxy, and tell in a ``status`` how they are doing.
"""
