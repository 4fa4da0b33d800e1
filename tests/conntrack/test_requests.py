"""What the kernel is asked: byte for byte what pyroute2 would ask it for the same."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, nfct_msg

from kproxy.conntrack.flows import PROTOCOL_NUMBERS, Flow
from kproxy.conntrack.looks import Look
from kproxy.conntrack.message import LAYOUTS
from kproxy.conntrack.requests import dump_request, inquiry, release_request
from kproxy.state.model import IPFamily, Protocol

GET, DELETE = 0x101, 0x102
REQUEST, ACK, DUMP = 0x001, 0x004, 0x300
SEEN_REPLY = 2
ports = st.one_of(st.none(), st.integers(0, 65535))


def by_pyroute2(family: IPFamily, look: Look) -> bytes:
    """The request to choose by protocol, address and port."""
    number = LAYOUTS[family].address_family
    proto = PROTOCOL_NUMBERS[look.protocols[0]]
    wanted = NFCTAttrTuple(family=number, proto=proto, daddr=look.ip, dport=look.port)
    wanted.attrs()  # works out the flags
    status = {"status": 0} if look.unanswered else {}
    chosen = nfct_msg.create_from(
        tuple_orig=wanted, cta_filter={"attrs": [["CTA_FILTER_ORIG_FLAGS", wanted.flags]]}, **status
    )
    if look.unanswered:
        chosen["attrs"].append(("CTA_STATUS_MASK", SEEN_REPLY))
    chosen["nfgen_family"] = number
    chosen["header"].update(type=GET, flags=REQUEST | DUMP, sequence_number=1)
    chosen.encode()
    return bytes(chosen.data)


def attributes(request: bytes) -> dict[int, bytes]:
    """The attributes of a request by type: their order says nothing."""
    found, offset = {}, 20
    while offset < len(request):
        length, kind = struct.unpack_from("=HH", request, offset)
        found[kind & 0x3FFF] = request[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def plain(content: bytes) -> bytes:
    """Leave out the mark of nested attributes, which the kernel does without."""
    return content.replace(b"\x01\x80", b"\x01\x00").replace(b"\x02\x80", b"\x02\x00")


@given(data=st.data(), family=st.sampled_from(list(IPFamily)), protocol=st.sampled_from(list(Protocol)), port=ports)
def test_choice_is_what_pyroute2_would_write(
    data: st.DataObject, family: IPFamily, protocol: Protocol, port: int | None
) -> None:
    ip = data.draw(st.one_of(st.none(), st.ip_addresses(v=4 if family is IPFamily.IPV4 else 6).map(str)))
    look = Look((protocol,), ip, port)
    ours, theirs = dump_request(family, look), by_pyroute2(family, look)
    assert ours[4:20] == theirs[4:20]
    assert {kind: plain(content) for kind, content in attributes(ours).items()} == {
        kind: plain(content) for kind, content in attributes(theirs).items()
    }
    assert struct.unpack_from("=I", ours) == (len(ours),)


def test_several_protocols_are_asked_for_by_the_missing_answer_alone() -> None:
    found = attributes(dump_request(IPFamily.IPV4, Look((Protocol.SCTP, Protocol.TCP))))
    assert found == {3: bytes(4), 26: struct.pack("!I", SEEN_REPLY)}


def test_everything_is_asked_for_without_any_choice() -> None:
    assert attributes(dump_request(IPFamily.IPV6, None)) == {}


@pytest.mark.parametrize(("write", "kind"), [(release_request, DELETE), (inquiry, GET)])
def test_only_the_last_of_a_batch_asks_for_an_answer(write: type, kind: int) -> None:
    flows = [Flow(Protocol.UDP, b"", b"", b"", bytes(4 * number)) for number in range(3)]
    datagram = write(IPFamily.IPV4, flows)
    headers = []
    while datagram:
        length, found, flags, sequence, _ = struct.unpack_from("=IHHII", datagram)
        headers.append((found, flags, sequence))
        datagram = datagram[length:]
    assert headers == [(kind, REQUEST, 1), (kind, REQUEST, 2), (kind, REQUEST | ACK, 3)]
