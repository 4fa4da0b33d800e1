"""kproxy: a service proxy for Kubernetes nodes.

Read the packages in the order the data takes: ``api`` → ``state`` → ``plan`` → ``backends``; ``proxier`` turns the
crank, ``conntrack`` clears up after it, ``report`` tells how it goes, and ``daemon`` puts the parts together.
``config`` and ``node`` are what it is told and what it finds; ``tools`` work without the daemon.
"""

__version__ = "0.1.0"
