"""Where objects come from: the API server, or a folder of manifests.

``types`` holds the objects themselves, ``kinds`` the table of their kinds, and ``sink`` what sources and receivers
agree on; the rest of kproxy needs to know no more. Read on from either end:

* ``source`` → ``reflector`` → ``listwatch`` → ``client``: lists and watches at the API server, with ``stream``,
  ``lines``, ``versions`` and ``backoff`` for the details. ``suspicions`` notices what a watch does not tell, with
  ``history`` (did time run backwards?) and ``relists`` (when may that cost a list?).
* ``client`` → ``credentials`` → ``access``: the way there, as client-go would go it. ``kubeconfig`` and ``execplugin``
  tell who speaks, ``urls`` and ``proxies`` where to; ``pools`` holds the connections, ``failures`` and ``culprits`` say
  what can go wrong.
* ``folder`` → ``manifests`` → ``yamlreader``: files.

Both decode with ``decode`` (``wire``: lists and events; ``tolerant``: what is malformed), leave out by ``selection``
what is no business of this node's proxy, and tell in a ``status`` how they are doing.
"""
