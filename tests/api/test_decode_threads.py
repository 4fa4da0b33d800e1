"""Each watch decodes in a thread of its own; see `kproxy.api.decode` for what must not happen there."""

import subprocess
import sys

# In a process of its own, as a decoder that an earlier test has made would hide the mistake.
PROGRAM = """
from kproxy.api import decode
from kproxy.api.kinds import Kind

decode.Decoder = None
thing = b'{"metadata": {"name": "x", "namespace": "y"}}'
for kind in Kind:
    assert decode.decode_object(kind, thing).object
    assert decode.decode_page(kind, b'{"metadata": {"resourceVersion": "1"}, "items": [%s]}' % thing).objects
    assert decode.decode_event(kind, b'{"type": "ADDED", "object": %s}' % thing).event
"""


def test_all_decoders_are_there_before_any_thread_is() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
