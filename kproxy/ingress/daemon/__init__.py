"""``kproxy ingress`` put together: ``run`` knows all the parts, ``loop`` turns the crank.

``statuses`` is what objects are told of themselves, ``traffic`` what HAProxy has counted, ``accesslog`` what it logs;
``init`` is the small parent that keeps HAProxy serving in a container when kproxy dies.
"""
