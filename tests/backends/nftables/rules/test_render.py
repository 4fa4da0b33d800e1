"""nftables rulesets as text: what people read, and what one transaction consists of."""

from collections.abc import Mapping

import msgspec
import pytest

from kproxy.backends.nftables.compile.compiler import Compiler, compile_plan
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change, from_nothing
from kproxy.backends.nftables.rules.render import Renderer
from kproxy.backends.nftables.rules.ruleset import (
    CameBy,
    Chance,
    Column,
    Count,
    CountFor,
    Deliver,
    DeliverTo,
    FlipMark,
    FromPrefix,
    GoTo,
    GoToFound,
    Jump,
    Marked,
    Member,
    Numbers,
    Own,
    Remember,
    Returning,
    SetMark,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Verdict,
)
from kproxy.plan.model import Frontend, FrontendKind, LocalTraffic, NodePlan
from kproxy.state.model import IPFamily, Protocol
from tests.kit.nft import NODE, named, plan_of, pods, service

V4, V6 = Renderer(IPFamily.IPV4), Renderer(IPFamily.IPV6)
BY_ADDRESS = (Column.DESTINATION, Column.PORT)
E0 = Numbers(7, 4_294_967_295)
CLIENT = "ip saddr . numgen random mod 1 offset 7 . numgen random mod 1 offset 4294967295"

TERMS: dict[str, Term] = {
    "ip daddr . tcp dport @s": Member("s", BY_ADDRESS, Protocol.TCP),
    "meta l4proto . th dport @s": Member("s", (Column.PROTOCOL, Column.PORT)),
    "ip daddr . udp dport vmap @m": GoToFound("m", BY_ADDRESS, Protocol.UDP),
    "ip saddr 10.0.0.0/8": FromPrefix("10.0.0.0/8"),
    "ip saddr != 10.0.0.0/8": FromPrefix("10.0.0.0/8", inverted=True),
    "ip daddr 10.0.0.1": ToPrefixes(("10.0.0.1",)),
    "ip daddr != { 10.0.0.1, 10.0.0.2 }": ToPrefixes(("10.0.0.1", "10.0.0.2"), inverted=True),
    'iifname "cni0"': CameBy("cni0"),
    'iifname != "veth*"': CameBy("veth*", inverted=True),
    "fib saddr type local": Own(Column.SOURCE),
    "meta l4proto sctp": Speaks(Protocol.SCTP),
    "ct state invalid": State.INVALID,
    "ct status dnat": Translated(),
    "meta mark & 0x4000 != 0": Marked(0x4000),
    "meta mark set meta mark | 0x4000": SetMark(0x4000),
    "meta mark set meta mark ^ 0x4000": FlipMark(0x4000),
    "numgen random mod 3 0": Chance(3),
    f"{CLIENT} @s": Returning("s", E0),
    f"update @s {{ {CLIENT} timeout 600s }}": Remember("s", E0, 600),
    "numgen random mod 1 offset 7 . numgen random mod 1 offset 4294967295 @s": CountFor("s", E0),
    'counter name "c"': Count("c"),
    "dnat ip addr . port to tcp dport . numgen random mod 8 map @m": Deliver("m", (Column.PORT,), Protocol.TCP, 8),
    "dnat to 10.0.0.1:80": DeliverTo("10.0.0.1", 80),
    "jump a/b": Jump("a/b"),
    "goto a/b": GoTo("a/b"),
    "return": Verdict.RETURN,
    "drop": Verdict.DROP,
    "reject": Verdict.REJECT,
    "masquerade fully-random": Verdict.MASQUERADE,
}  # fmt: skip


@pytest.mark.parametrize("text", TERMS)
def test_terms_are_spelt_as_nft_reads_them(text: str) -> None:
    assert V4.rule((TERMS[text],)) == text


def test_rules_of_ipv6_say_so() -> None:
    assert V6.rule((FromPrefix("fd00::/8"), DeliverTo("fd00::1", 80))) == "ip6 saddr fd00::/8 dnat to [fd00::1]:80"
    deliver = Deliver("m", BY_ADDRESS, Protocol.UDP, 2)
    assert V6.rule((deliver,)) == "dnat ip6 addr . port to ip6 daddr . udp dport . numgen random mod 2 map @m"


def test_what_people_read() -> None:
    text = V4.ruleset(compile_plan(plan_of(service("web", 10, pods(2, 1)))))
    assert text.startswith("table ip kproxy {\n")
    assert text.endswith("}\n")
    for part in (
        """
	set tcp/cluster-2/off-cluster {
		typeof ip daddr . tcp dport
		counter
		elements = {
			10.96.0.10 . 80
		}
	}
""",
        """
	map tcp/cluster-endpoints {
		typeof ip daddr . tcp dport . numgen random mod 2 : ip daddr . tcp dport
		counter
		elements = {
			10.96.0.10 . 80 . 0 : 10.244.0.2 . 8080,
			10.96.0.10 . 80 . 1 : 10.244.0.1 . 8080
		}
	}
""",
        """
	chain nat-prerouting {
		type nat hook prerouting priority -101; policy accept;
		jump services
	}
""",
        """
	chain tcp/cluster-2/off-cluster {
		ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x4000
		goto tcp/cluster-2
	}
""",
    ):
        assert part in text


def test_the_same_plan_is_the_same_text() -> None:
    services = [service(f"s{n}", n, pods(*range(1, n))) for n in range(2, 12)]
    texts = {V4.ruleset(compile_plan(plan_of(*order))) for order in (services, services[::-1])}
    assert len(texts) == 1


def test_elements_are_sorted_as_people_count() -> None:
    text = V4.ruleset(compile_plan(plan_of(*(service(f"s{n}", n, pods(1)) for n in (9, 10, 100)))))
    places = [text.index(f"10.96.0.{n} . 80\n" if n == 100 else f"10.96.0.{n} . 80,") for n in (9, 10, 100)]
    assert places == sorted(places)


LOCAL: Mapping[str, NodePlan] = {
    'iifname != "cni0" meta mark set': msgspec.structs.replace(NODE, local_traffic=LocalTraffic(bridge="cni0")),
    'iifname != "cali*" meta mark set': msgspec.structs.replace(
        NODE, local_traffic=LocalTraffic(interface_prefix="cali")
    ),
    "\t\tmeta mark set meta mark | 0x4000\n": msgspec.structs.replace(NODE, local_traffic=None),
}


@pytest.mark.parametrize("text", LOCAL)
def test_each_way_of_telling_local_pods(text: str) -> None:
    assert text in V4.ruleset(compile_plan(plan_of(service("web", 10, pods(1)), node=LOCAL[text])))


@pytest.mark.parametrize(
    ("node_port_ips", "text"),
    [
        (None, "fib daddr type local ip daddr != 127.0.0.0/8 goto tcp/node-port/services"),
        (("10.0.0.1", "10.0.0.2"), "ip daddr { 10.0.0.1, 10.0.0.2 } goto tcp/node-port/services"),
    ],
)
def test_where_node_ports_answer(node_port_ips: tuple[str, ...] | None, text: str) -> None:
    node = msgspec.structs.replace(NODE, node_port_ips=node_port_ips)
    exposed = service("web", 10, pods(1), more=[Frontend(FrontendKind.NODE_PORT, None, 30080)])
    assert text in V4.ruleset(compile_plan(plan_of(exposed, node=node)))


def test_where_no_address_answers_nothing_leads_to_node_ports() -> None:
    node = msgspec.structs.replace(NODE, node_port_ips=())
    exposed = service("web", 10, pods(1), more=[Frontend(FrontendKind.NODE_PORT, None, 30080)])
    text = V4.ruleset(compile_plan(plan_of(exposed, node=node)))
    assert "goto tcp/node-port/services" not in text
    assert f"jump {names.REFUSE_NODE_PORTS}" not in text


# --- changes -------------------------------------------------------------------------------------------------------


def test_a_change_of_one_endpoint_is_two_commands() -> None:
    compiler = Compiler(NODE)
    compiler.update(plan_of(service("web", 10, pods(1, 2)), service("other", 11, pods(1, 2, 9))).services)
    change = compiler.update({named("web"): service("web", 10, pods(1, 9))})
    assert V4.change(change).splitlines() == [
        "delete element ip kproxy tcp/cluster-endpoints { 10.96.0.10 . 80 . 1 }",
        "add element ip kproxy tcp/cluster-endpoints { 10.96.0.10 . 80 . 1 : 10.244.0.9 . 8080 }",
    ]


def test_all_is_there_before_it_is_referred_to_and_referred_to_no_more_when_it_goes() -> None:
    compiler = Compiler(NODE)
    compiler.update(plan_of(service("web", 10, pods(1))).services)
    change = compiler.update({named("web"): service("web", 10, pods(1, 2, 3), affinity_seconds=60)})
    lines = V4.change(change).splitlines()
    kinds = ["add counter", "add set", "add map", "add chain", "flush chain", "add rule"]
    kinds += ["delete element", "add element", "delete map", "delete set", "delete counter"]
    phases = [next(n for n, kind in enumerate(kinds) if line.startswith(kind)) for line in lines]
    together = {kinds.index("add map"): kinds.index("add set"), kinds.index("delete set"): kinds.index("delete map")}
    assert [together.get(phase, phase) for phase in phases] == sorted(together.get(phase, phase) for phase in phases)


def test_loading_in_pieces_brings_all_elements() -> None:
    ruleset = compile_plan(plan_of(*(service(f"s{n}", n, pods(1, 2, 3)) for n in range(50))))
    pieces = list(V4.element_batches(ruleset.elements, most=40))
    assert max(piece.count(",") + 1 for piece in pieces) == 40
    assert sum(piece.count(",") + 1 for piece in pieces) == sum(map(len, ruleset.elements.values()))
    assert set(from_nothing(ruleset).elements_come) == {piece.split()[4] for piece in pieces}
    assert not Change(after=ruleset).touched
