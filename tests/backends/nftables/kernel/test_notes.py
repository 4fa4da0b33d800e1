"""Whether a set was declared by typeof is read off what nft notes down: 1.0.6 crashes on 1.1's notes of types.

The notes are those that nft 1.0.6 and 1.1.3 made of these declarations on a little-endian machine.
"""

import pytest

from kproxy.backends.nftables.kernel.notes import declared_by_expressions

BY_TYPE = {
    "1.0.6: type ipv4_addr": "000402000000",
    "1.0.6: type ipv4_addr . inet_service": "000400000000030800040d0000000100",
    "1.0.6: type inet_service : verdict": "000402000000010400000000060400000000",
    "1.1.3: type ipv4_addr": "00040200000003080004040000000100",
    "1.1.3: type ipv4_addr . inet_service": "000400000000031200040d000000010a00000004040000000100",
    "1.1.3: type inet_service : verdict": "00040200000001040000000003080004040000000100"
    "04080004040000000100060400000000",
    "nothing": "",
    "cut short": "0004020000000314",
}
BY_EXPRESSION = {
    "typeof ip daddr": "0004020000000314000407000000010c00040c00000001040c000000",
    "typeof ip daddr . tcp dport": "000400000000033400040d000000012c0014000407000000010c00040c00000001040c000000"
    "0114000407000000010c000408000000010402000000",
    "typeof tcp dport : verdict": "0004020000000104000000000314000407000000010c0004080000000104020000000408000401000000"
    "0100060400000000",
    "typeof meta l4proto . th dport": "000400000000032e00040d0000000126000e00040900000001060004100000000114"
    "000407000000010c00040b000000010402000000",
}


@pytest.mark.parametrize("notes", BY_TYPE.values(), ids=BY_TYPE)
def test_declared_by_type(notes: str) -> None:
    assert not declared_by_expressions(bytes.fromhex(notes))


@pytest.mark.parametrize("notes", BY_EXPRESSION.values(), ids=BY_EXPRESSION)
def test_declared_by_typeof(notes: str) -> None:
    assert declared_by_expressions(bytes.fromhex(notes))
