"""The second storey: from a host and a path to a pod, for Ingress and Gateway API. A program of its own.

It goes the same way through the house as the service proxy: objects → state → plan → compile → apply, with another plan
and another engine. ``api`` holds the kinds of objects that only this program watches, ``plan`` every decision about a
request, ``status`` what the objects are told of themselves, ``haproxy`` the translation and the engine. ``daemon`` puts
it together, ``config`` is what it is told and ``report`` what it tells; ``explain`` and ``tools`` say what becomes of a
request, ``cli`` is its command line. Nothing of the service proxy imports any of it.
"""
