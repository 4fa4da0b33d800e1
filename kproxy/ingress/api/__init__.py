"""The kinds of objects that only the ingress program watches, and how it gets at them.

``meta``, ``core``, ``networking``, ``gateway`` and ``httproute`` hold the objects themselves, cut down to the fields
used, and ``kinds`` the table that decoding, watching and reading manifests go by, as `kproxy.api.kinds` is for the
service proxy. ``source`` lists and watches them, ``secrets`` only the Secrets that are named.
"""
