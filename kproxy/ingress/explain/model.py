"""The answer to "what becomes of this request?": the document that ``-o json`` prints. Fields are only ever added."""

import enum

import msgspec


class Verdict(enum.StrEnum):
    """What becomes of a request."""

    FORWARD = "forward"
    """It goes to one of the endpoints."""
    REDIRECT = "redirect"
    """The client is sent elsewhere."""
    REFUSE = "refuse"
    """It is answered with an error, though a rule is met, or belongs to another listener."""
    NONE = "none"
    """No rule is met."""


EXIT_CODES = {Verdict.FORWARD: 0, Verdict.REDIRECT: 0, Verdict.REFUSE: 3, Verdict.NONE: 4}
"""As ``kproxy explain`` has them for connections."""


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is printed."""


class Endpoint(Model, frozen=True, kw_only=True):
    """A pod that a request may get to."""

    address: str
    share: float
    """Its part of the requests of its Service, 0 to 1."""
    draining: bool = False


class Choice(Model, frozen=True, kw_only=True):
    """A place where a request may go."""

    service: str
    """``namespace/name:port``; empty where the reference leads nowhere."""
    share: float
    """Its part of the rule's requests, 0 to 1."""
    protocol: str = "http"
    status: int = 0
    """The code of the answer where there is nobody to ask."""
    changes: tuple[str, ...] = ()
    """What happens to requests that go there, and to their answers."""
    endpoints: tuple[Endpoint, ...] = ()


class Way(Model, frozen=True, kw_only=True):
    """What becomes of the request where it comes in at some addresses."""

    binds: tuple[str, ...]
    protocol: str
    verdict: Verdict
    status: int = 0
    """The code of the answer, where it is known."""
    owners: tuple[str, ...] = ()
    """Whose listener it belongs to."""
    host: str = ""
    """The host pattern that was met."""
    match: str = ""
    """The match that was met."""
    kind: str = ""
    object: str = ""
    """``namespace/name`` of the object whose rule was met."""
    rule: int | None = None
    """The number of the rule in its object, from 0; -1 for an Ingress' default backend."""
    location: str = ""
    """Where a redirect leads."""
    changes: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    near: tuple[str, ...] = ()
    """What there is, where nothing was met."""


class Answer(Model, frozen=True, kw_only=True):
    """All of it."""

    url: str
    method: str
    ways: tuple[Way, ...]
    """One for each frontend at the URL's port: more than one where Gateways have addresses of their own."""
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The best of all ways."""
        order = list(Verdict)
        return min((way.verdict for way in self.ways), key=order.index, default=Verdict.NONE)
