"""What all tests of connections share."""

import pytest

from hack.lab import Lab, Pod
from tests.kit.packets.conntrack import Net, mute


@pytest.fixture(scope="module")
def silent(lab: Lab, net: Net) -> Pod:
    assert net.lab is lab
    return mute(lab, "silent")
