"""What became of a connection, each in words of its own: those that only a network out of order brings about."""

import errno
import ssl

import pytest
from urllib3.exceptions import ConnectTimeoutError

from kproxy.api.transport.culprits import describe

REMEDY = "check the server's URL"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EHOSTUNREACH, "as the system says it"), f"no route to host; {REMEDY}"),
        (OSError(errno.ENETUNREACH, "as the system says it"), f"network is unreachable; {REMEDY}"),
        (OSError(errno.EPIPE, "as the system says it"), "broken pipe"),
        (OSError(errno.EMFILE, "as the system says it"), "too many open files"),
        (ConnectTimeoutError(None, "https://server/", "slow"), f"cannot be connected to in time; {REMEDY}, and the "),
        (ssl.SSLEOFError(), "it closed the connection"),
        (ConnectionAbortedError(), "it closed the connection"),
        (ssl.SSLError("certificate"), "the certificate's fault"),
        (RuntimeError("two\nlines"), "the connection broke off: two\\nlines"),
    ],
    ids=str,
)
def test_what_became_of_a_connection(error: Exception, said: str) -> None:
    assert describe([error], REMEDY, lambda _: "the certificate's fault").startswith(said)
