"""The lab's handmade SCTP packets: what is sent can be read again, what was damaged is not."""

from hypothesis import given
from hypothesis import strategies as st

from hack.lab import sctp

PORTS = st.integers(0, 0xFFFF)
TAGS = st.integers(0, 0xFFFFFFFF)
PACKETS = st.builds(
    sctp.Packet,
    chunk=st.sampled_from([sctp.INIT, sctp.INIT_ACK]),
    source_port=PORTS,
    destination_port=PORTS,
    verification_tag=TAGS,
    initiate_tag=TAGS,
    cookie=st.binary(max_size=60),
)


def test_checksum_is_the_one_that_the_standards_know() -> None:
    assert sctp.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32/ISCSI


@given(packet=PACKETS)
def test_a_packet_comes_back_as_it_was(packet: sctp.Packet) -> None:
    data = sctp.encode(packet)
    assert len(data) % 4 == 0
    assert sctp.decode(data) == packet


@given(packet=PACKETS, place=st.integers(0), flip=st.integers(1, 255))
def test_a_damaged_packet_is_passed_over(packet: sctp.Packet, place: int, flip: int) -> None:
    data = bytearray(sctp.encode(packet))
    data[place % len(data)] ^= flip
    assert sctp.decode(bytes(data)) is None


@given(data=st.binary(max_size=100))
def test_anything_else_is_passed_over(data: bytes) -> None:
    assert sctp.decode(data) is None
