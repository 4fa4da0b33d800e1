"""The lab as a fixture. See `hack.lab` for what it is."""

from collections.abc import Iterator

import pytest

from hack.lab import Lab, LabError


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab for all tests of a module, with node-a, node-b and the client, and no pods yet."""
    try:
        made = Lab()
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    with made:
        yield made
