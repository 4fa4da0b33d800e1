"""A backend that writes into a network namespace of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy.backends.nftables.backend import NftablesBackend
from tests.kit.nft import table_in_namespace


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[NftablesBackend]:
    with table_in_namespace(tmp_path) as made:
        yield made
