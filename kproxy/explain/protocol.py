"""What the daemon can be asked by its socket, and how it answers: JSON, one document each way."""

import msgspec


class ExplainQuestion(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="explain"):
    """``kproxy explain``: what becomes of a connection. Fields are texts as a user writes them."""

    destination: str
    sender: str = "pod"
    protocol: str = ""
    family: str = ""


class StatusQuestion(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="status"):
    """``kproxy status``: how it does."""


class DiffQuestion(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="diff"):
    """``kproxy diff``: what a full sync would change now."""

    family: str = ""


Questions = ExplainQuestion | StatusQuestion | DiffQuestion


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What comes back: a document, or why there is none."""

    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    misuse: bool = False
    """Whether the question itself was at fault."""
