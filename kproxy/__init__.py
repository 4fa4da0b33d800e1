"""kproxy: a service proxy for Kubernetes nodes.

Read the packages in the order the data takes: ``api`` → ``state`` → ``plan`` → ``backends``; ``proxier`` turns the
crank and ``daemon`` puts the parts together.
"""

__version__ = "0.1.0"
