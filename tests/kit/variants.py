"""The lab once for each variant of iptables, for modules whose tests must hold with either. See `tests.kit.lab`."""

from collections.abc import Iterator

import pytest

from hack.lab import Lab
from tests.kit.lab import lab_of


@pytest.fixture(scope="module", params=["legacy", "nft"])
def variant(request: pytest.FixtureRequest) -> str:
    """Which iptables everybody on the nodes uses."""
    return str(request.param)


@pytest.fixture(scope="module")
def lab(variant: str) -> Iterator[Lab]:
    """See `tests.kit.lab.lab`."""
    with lab_of(variant) as made:
        yield made
