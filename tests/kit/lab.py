"""The lab as a fixture. See `hack.lab` for what it is."""

from collections.abc import Iterator

import pytest

from hack.lab import Lab, LabError


def lab_of(iptables: str = "legacy") -> Lab:
    """Return a lab whose nodes use a variant of iptables; where there can be none, the test fails by one line."""
    try:
        return Lab(iptables=iptables)
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab for all tests of a module, with node-a, node-b and the client, and no pods yet."""
    with lab_of() as made:
        yield made
