"""kproxy: a service proxy for Kubernetes nodes.

Read the packages in the order the data takes: ``api`` → ``state`` → ``plan`` → ``backends``; ``proxier`` turns the
crank, ``conntrack`` clears up after it, ``report`` tells how it goes, and ``daemon`` puts the parts together.
``config`` and ``node`` are what it is told and what it finds. ``held`` reads what the kernel holds, ``explain`` says
what becomes of a connection by it, ``tools`` are the commands beside the daemon. ``ingress`` is a second program on the
same foundations. In ``faults`` is what keeps one fault from spreading.

On the landing: ``cli`` (the command line), ``logs``, ``wording`` (how values are spelt in messages).
"""

__version__ = "0.1.0"
