"""The way to the API server, as client-go would go it: client-go's word for it is transport.

``client`` is HTTP, down to raw bytes, and how long each step of it may take. It asks ``credentials`` where to go and as
whom, from flags, environment, service account and ``kubeconfig``, with ``execplugin`` where a program gives the
credentials; the answer is an ``access``. ``urls`` reads the addresses of servers, ``proxies`` tells which company proxy
leads there. ``pools`` holds the connections; ``failures`` says in one line what went wrong with one, and ``culprits``
whose fault that is.
"""
