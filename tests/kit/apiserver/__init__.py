"""A Kubernetes API server for tests, the lab and the benchmarks, with a real one's semantics and faults on demand.

kproxy's side towards the API server can be trusted only as far as what it was tried against. So this one is held to
recordings of a real kube-apiserver (tests/wire, in tests/apiserver), answers what kubectl was recorded to ask
(kubectl.json, by `kubectl`), and the kubernetes package must be able to talk to it.

* `server` is what tests use, `fixtures` have it for them; `objects` makes what to put there, of the `kinds` it knows.
* `rest` is what it answers where nothing goes wrong, `faults` are what can, as values.
* `runner` is the thread in which it serves, `responder` writes answers out, `requestlog` remembers who asked for what.
* `certs` and `credentials` are what a client finds and trusts it by; `rawclient` is one that hides nothing.
* `process` runs it as a process of its own, also in a namespace, which is steered by `control`; ``python -m
  tests.kit.apiserver --help`` tells how a person does.
"""

from tests.kit.apiserver.rest.api import Settings
from tests.kit.apiserver.server import ApiServer

__all__ = ["ApiServer", "Settings"]
