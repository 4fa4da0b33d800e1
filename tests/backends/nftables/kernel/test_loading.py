"""Elements loaded straight by netlink are what the kernel then holds, in sets of every shape and of both families."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kproxy.backends.nftables.kernel.errors import KernelRefusedError
from kproxy.backends.nftables.kernel.library import Libnftables
from kproxy.backends.nftables.kernel.loading import PIECE, Loader, is_plain
from kproxy.backends.nftables.kernel.netlink import Reader
from kproxy.backends.nftables.kernel.packing import Packer
from kproxy.backends.nftables.kernel.table import KernelTable
from kproxy.backends.nftables.rules.render import Renderer
from kproxy.backends.nftables.rules.ruleset import Column, Elements, SetSpec
from kproxy.backends.nftables.rules.ways import Place
from kproxy.state.model import IPFamily, Protocol
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel

IPS = {
    IPFamily.IPV4: ("10.96.0.1", "10.96.0.2", "10.244.3.4"),
    IPFamily.IPV6: ("fd00:10:96::1", "fd00:10:96::2", "fd00::ffff:2"),
}
NAME = "tcp/some-set"


@pytest.fixture
def somewhere(tmp_path: Path) -> Iterator[None]:
    with network_namespace(tmp_path):
        yield


def shapes(family: IPFamily) -> dict[str, tuple[SetSpec, Elements]]:
    one, two, pod = IPS[family]
    address, port, protocol, number = Column.DESTINATION, Column.PORT, Column.PROTOCOL, Column.NUMBER
    by_address, by_port = (Place(Protocol.TCP, node_port=node_port) for node_port in (False, True))
    return {
        "frontends": (by_address.set_spec, {(one, 80): None, (two, 65_535): None}),
        "node ports": (by_port.set_spec, {(30_080,): None, (1,): None}),
        "endpoints": (by_address.endpoints_spec, {(one, 80, 0): (pod, 8080), (one, 80, 1): (two, 1)}),
        "endpoints of node ports": (by_port.endpoints_spec, {(30_080, 0): (pod, 8080), (30_080, 7): (two, 81)}),
        "addresses": (SetSpec(columns=(address,)), {(one,): None, (two,): None}),
        "pairs": (SetSpec(columns=(Column.SOURCE, address)), {(one, two): None}),
        "all protocols": (
            SetSpec(columns=(address, protocol, port), counted=True),
            {(one, str(each), 53): None for each in Protocol},
        ),
        "numbers": (SetSpec(columns=(number, number), counted=True), {(1, 2**32 - 1): None, (2**31, 0): None}),
    }


@pytest.mark.usefixtures("somewhere")
@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.parametrize("shape", shapes(IPFamily.IPV4))
def test_sets_of_every_shape(shape: str, family: IPFamily) -> None:
    spec, elements = shapes(family)[shape]
    assert is_plain(spec)
    load(family, spec, elements)
    with closing(Reader()) as reader:
        table = KernelTable(family, reader)
        found = {element.key: element.data for element in table.elements(NAME, spec)}
        asked_for = table.packets([(NAME, key) for key in elements], {NAME: spec})
    assert found == elements
    assert asked_for == [0] * len(elements)
    with closing(Libnftables()) as library:  # it knows by what they are looked up, and finds them all
        library.run(Renderer(family).delete_elements(NAME, elements))


@pytest.mark.usefixtures("somewhere")
def test_more_than_fit_into_one_message_or_one_transaction() -> None:
    spec = Place(Protocol.TCP, node_port=False).endpoints_spec
    assert Packer(spec, IPFamily.IPV4).most < PIECE
    elements: Elements = {(IPS[IPFamily.IPV4][0], port, 0): ("10.244.0.1", port) for port in range(1, 2 * PIECE)}
    load(IPFamily.IPV4, spec, elements)
    with closing(Libnftables()) as library:
        library.run(Renderer(IPFamily.IPV4).delete_elements(NAME, elements))


@pytest.mark.usefixtures("somewhere")
@pytest.mark.parametrize("number", [1, 3000])
def test_what_the_kernel_refuses_is_said_as_by_libnftables(number: int) -> None:
    elements: Elements = {(port,): None for port in range(1, number + 1)}
    with closing(Loader(IPFamily.IPV4)) as loader:
        (carry_out,) = loader.transactions(NAME, Place(Protocol.TCP, node_port=True).set_spec, elements)
        with pytest.raises(KernelRefusedError, match="No such file") as said:
            carry_out()
    assert said.value.may_be_a_services_fault


def load(family: IPFamily, spec: SetSpec, elements: Elements) -> None:
    """Make a table with a set, and load these elements into it."""
    render = Renderer(family)
    with closing(Libnftables()) as library, closing(Loader(family)) as loader:
        library.run(f"add table {render.table}\n{render.add_set(NAME, spec)}\n")
        for carry_out in loader.transactions(NAME, spec, elements):
            carry_out()
