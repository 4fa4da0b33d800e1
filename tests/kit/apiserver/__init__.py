"""A Kubernetes API server for tests, the lab and the benchmarks, with a real one's semantics and faults on demand.

kproxy's side towards the API server can be trusted only as far as what it was tried against. So this one is held to
recordings of a real kube-apiserver (tests/wire, by test_wire.py), answers what kubectl was recorded to ask
(kubectl.json), and the kubernetes package must be able to talk to it. ``python -m tests.kit.apiserver --help`` runs it
as a process of its own.
"""

from tests.kit.apiserver.rest.api import Settings
from tests.kit.apiserver.server import ApiServer

__all__ = ["ApiServer", "Settings"]
