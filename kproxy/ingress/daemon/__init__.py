"""``kproxy ingress`` put together: ``run`` knows all the parts, ``loop`` turns the crank.

``objects`` are what it has been told of, ``traffic`` what HAProxy has counted, ``accesslog`` what it logs; ``init`` is
the small parent that keeps HAProxy serving in a container when kproxy dies.
"""
