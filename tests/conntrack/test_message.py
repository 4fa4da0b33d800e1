"""The kernel's answers, held to pyroute2, which reads and writes all of what kproxy reads and writes a part of."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsgerr
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, nfct_msg

from kproxy.conntrack.flows import ConntrackError, Flow, packed, socket_address
from kproxy.conntrack.message import LAYOUTS, Dump, Reader, RefusedError, answers
from kproxy.conntrack.requests import inquiry, release_request
from kproxy.state.model import IPFamily, Protocol

NEW, GET, DELETE, DONE, ERROR = 0x100, 0x101, 0x102, 3, 2
INTERRUPTED = 0x10
UDP, TCP, SCTP, ICMP = 17, 6, 132, 1
ANSWERED, UNANSWERED = 0x1AE, 0x188  # as of a flow through a service: confirmed, NAT done at both ends …
families = st.sampled_from(list(IPFamily))
ports = st.integers(0, 65535)


def addresses(family: IPFamily) -> st.SearchStrategy[str]:
    return st.ip_addresses(v=4 if family is IPFamily.IPV4 else 6).map(str)


def message(kind: int, content: bytes, flags: int = 2, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(content), kind, flags, sequence, 0) + content


def entry(
    family: IPFamily,
    source: tuple[str, int] = ("192.0.2.7", 4000),
    destination: tuple[str, int] = ("10.96.0.10", 53),
    answering: tuple[str, int] = ("10.244.0.11", 8053),
    protocol: int = UDP,
    *,
    zone: int | None = None,
    entry_id: int = 77,
    status: int = ANSWERED,
) -> bytes:
    """A conntrack entry as the kernel tells of it, in its order, encoded by pyroute2."""
    number = LAYOUTS[family].address_family
    original = NFCTAttrTuple(number, source[0], destination[0], protocol, source[1], destination[1])
    reply = NFCTAttrTuple(number, answering[0], source[0], protocol, answering[1], source[1])
    content = nfct_msg.create_from(
        tuple_orig=original, tuple_reply=reply, zone=zone, status=status, timeout=30, mark=0, id=entry_id
    )
    content["nfgen_family"] = number
    content["header"].update(type=NEW, flags=2, sequence_number=1)
    content.encode()
    return bytes(content.data)


def dump(*protocols: Protocol, family: IPFamily = IPFamily.IPV4) -> Dump:
    return Dump(Reader(family, protocols or [Protocol.UDP]))


def flows_in(*messages: bytes, family: IPFamily = IPFamily.IPV4) -> list[Flow]:
    return list(dump(family=family).flows(b"".join(messages)))


@given(data=st.data(), family=families, entry_id=st.integers(0, 2**32 - 1))
def test_reads_what_pyroute2_writes_and_back(data: st.DataObject, family: IPFamily, entry_id: int) -> None:
    place = st.tuples(addresses(family), ports)
    source, destination, answering = (data.draw(place) for _ in range(3))
    (flow,) = flows_in(entry(family, source, destination, answering, entry_id=entry_id), family=family)
    assert flow[:4] == (
        Protocol.UDP,
        packed(source[0]),
        socket_address(*destination),
        socket_address(*answering),
    )
    for kind, write in ((GET, inquiry), (DELETE, release_request)):
        request = nfct_msg(write(family, [flow]))
        request.decode()
        named = NFCTAttrTuple.from_netlink(request["nfgen_family"], request.get_attr("CTA_TUPLE_ORIG"))
        assert request["header"]["type"] == kind
        assert socket_address(named.saddr, named.sport) == socket_address(*source)
        assert socket_address(named.daddr, named.dport) == socket_address(*destination)
        assert (named.proto, request.get_attr("CTA_ID")) == (UDP, entry_id)


@pytest.mark.parametrize("family", list(IPFamily))
@pytest.mark.parametrize(("number", "protocol"), [(TCP, Protocol.TCP), (SCTP, Protocol.SCTP)])
def test_connections_are_told_of_while_nobody_has_answered(number: int, protocol: Protocol, family: IPFamily) -> None:
    """Kernels before 5.15 tell of all, however they are asked."""
    places = {
        IPFamily.IPV4: (("192.0.2.7", 1), ("10.96.0.10", 53), ("10.244.0.11", 53)),
        IPFamily.IPV6: (("2001:db8::7", 1), ("fd00:10:96::a", 53), ("fd00:244::b", 53)),
    }[family]
    with_answer, without = (
        entry(family, *places, number, status=status, entry_id=status) for status in (ANSWERED, UNANSWERED)
    )
    reader = Reader(family, [protocol])
    (flow,) = reader.flows(with_answer + without + with_answer)
    assert flow.protocol is protocol
    assert flow.handle.endswith(UNANSWERED.to_bytes(4, "big"))
    assert list(Reader(family, [Protocol.UDP]).flows(without)) == []
    assert list(Dump(reader).flows(with_answer + without)) == [flow]


def test_reads_many_from_one_datagram_and_ends_with_done() -> None:
    reading = dump()
    one, other = entry(IPFamily.IPV4), entry(IPFamily.IPV4, ("192.0.2.8", 1))
    assert len(list(reading.flows(one + other))) == 2
    assert not reading.done
    assert list(reading.flows(message(DONE, bytes(4)))) == []
    assert reading.done


@pytest.mark.parametrize(
    "other",
    [
        entry(IPFamily.IPV4, protocol=TCP, status=UNANSWERED),
        entry(IPFamily.IPV4, protocol=ICMP),
        entry(IPFamily.IPV6, ("2001:db8::7", 1), ("fd00:10:96::a", 53), ("fd00:244::b", 53)),
        entry(IPFamily.IPV4, zone=7),
        message(0x105, bytes(40)),
    ],
    ids=["another protocol", "no protocol of services", "another family", "in a zone", "another message"],
)
def test_passes_over_what_is_not_asked_for(other: bytes) -> None:
    assert len(flows_in(other, entry(IPFamily.IPV4), other)) == 1


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.EPERM, "CAP_NET_ADMIN"), (errno.EINVAL, "nf_conntrack_netlink"), (errno.ENOMEM, "ENOMEM")],
)
@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_a_refusal_is_an_error_with_its_remedy(kind: int, code: int, remedy: str) -> None:
    reading = dump()
    with pytest.raises(RefusedError, match=remedy) as caught:
        list(reading.flows(message(kind, struct.pack("=i", -code) + bytes(16))))
    assert caught.value.code == code
    assert reading.done


def test_an_answer_with_gaps_is_an_error() -> None:
    with pytest.raises(ConntrackError, match="changed"):
        flows_in(message(DONE, bytes(4), flags=2 | INTERRUPTED))


def test_a_message_without_end_is_an_error() -> None:
    with pytest.raises(ConntrackError, match="shorter"):
        flows_in(bytes(16))


def test_answers_name_the_request_and_its_fate() -> None:
    told = nlmsgerr()
    told["header"].update(type=ERROR, sequence_number=2)
    told["error"] = -errno.ENOENT
    told.encode()
    fine = message(ERROR, bytes(20), sequence=3)
    assert list(answers(bytes(told.data) + fine)) == [(2, errno.ENOENT), (3, 0)]
