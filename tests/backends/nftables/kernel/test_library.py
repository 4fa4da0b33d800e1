"""libnftables forgets what went through it when it is told to, and works on."""

from pathlib import Path

import pytest

from kproxy.backends.nftables.kernel.library import Libnftables
from tests.kit.netns import network_namespace
from tests.kit.nft import nft


@pytest.mark.kernel
def test_it_works_on_after_forgetting_and_holds_no_more_descriptors(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        library = Libnftables()
        library.run("add table ip one")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            library.forget()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        library.run("add table ip two")
        library.close()
        assert nft("list", "tables").splitlines() == ["table ip one", "table ip two"]
