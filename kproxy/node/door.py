"""Where on this machine the kproxy that runs in this network namespace answers questions: a socket for root alone."""

from pathlib import Path

from kproxy.node.raised import RUN_DIRECTORY, namespace_cookie


def socket_path(directory: str | Path, root: Path = Path("/")) -> Path:
    """Return the socket's path. ``directory`` is the state directory; without one it is `RUN_DIRECTORY`.

    The name tells network namespaces apart, so that several can each have a kproxy, as the nodes of a lab do.
    """
    return Path(directory or RUN_DIRECTORY) / f"kproxy-{namespace_cookie(root):x}.sock"
