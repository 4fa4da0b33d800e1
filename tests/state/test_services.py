"""What becomes of each part of a Service, good or bad: the part is used or named in a problem, the rest stays."""

from typing import Any

import pytest

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind
from kproxy.api.types import Service
from kproxy.state.model import IPFamily, LoadBalancing, Protocol, ServicePort
from kproxy.state.services import service_ports


def service(spec: dict[str, Any] | None = None, **more: Any) -> Service:
    whole = {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80}]} | (spec or {})
    raw = {"metadata": {"name": "web", "namespace": "shop"}, "spec": whole} | more
    decoded = convert_object(Kind.SERVICE, raw)
    assert decoded.problems == ()
    assert isinstance(decoded.object, Service)
    return decoded.object


def ports(spec: dict[str, Any] | None = None, family: IPFamily = IPFamily.IPV4, **more: Any) -> tuple[ServicePort, ...]:
    found, problems = service_ports(service(spec, **more), family)
    assert problems == ()
    return found


def problems(spec: dict[str, Any], **more: Any) -> dict[str, str]:
    """Return what is wrong by field. Whatever it is, it must not cost more than that part."""
    return {problem.field: problem.reason for problem in service_ports(service(spec, **more), IPFamily.IPV4)[1]}


def test_a_plain_service() -> None:
    (port,) = ports()
    assert str(port.name) == "shop/web:http"
    assert port.name.protocol is Protocol.TCP
    assert (port.cluster_ip, port.port, port.node_port) == ("10.96.0.10", 80, 0)
    assert not port.externally_accessible


def test_a_port_without_a_name() -> None:
    (port,) = ports({"ports": [{"port": 80}]})
    assert str(port.name) == "shop/web"


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None"},
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "clusterIP": "10.96.0.10"},
        {"type": "ExternalName", "clusterIP": ""},
        {"ports": []},
        {"clusterIP": "fd00:10:96::10"},
    ],
)
def test_services_without_anything_to_proxy(spec: dict[str, Any]) -> None:
    assert ports(spec) == ()


def test_another_proxys_service() -> None:
    labels = {"service.kubernetes.io/service-proxy-name": ""}
    assert ports(metadata={"name": "web", "namespace": "shop", "labels": labels}) == ()


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("010.096.0.010", "10.96.0.10"), ("::ffff:10.96.0.10", "10.96.0.10"), ("::ffff:a60:a", "10.96.0.10")],
)
def test_addresses_are_spelt_one_way(written: str, canonical: str) -> None:
    (port,) = ports({"clusterIP": written, "externalIPs": [written, canonical]})
    assert port.cluster_ip == canonical
    assert port.external_ips == (canonical,)


def test_ipv6_addresses_are_spelt_one_way() -> None:
    (port,) = ports({"clusterIP": "FD00:10:096:0::10", "externalIPs": ["2001:DB8:0::1"]}, IPFamily.IPV6)
    assert port.cluster_ip == "fd00:10:96::10"
    assert port.external_ips == ("2001:db8::1",)


def test_each_family_gets_its_own_addresses() -> None:
    spec = {
        "type": "LoadBalancer",
        "clusterIPs": ["10.96.0.10", "fd00:10:96::10"],
        "externalIPs": ["198.51.100.1", "2001:db8::1"],
        "loadBalancerSourceRanges": ["192.0.2.0/24", " 2001:db8:c::/64 "],
    }
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"ip": "2001:db8:e::1"}]}}
    (four,), (six,) = ports(spec, IPFamily.IPV4, status=status), ports(spec, IPFamily.IPV6, status=status)
    assert (four.cluster_ip, six.cluster_ip) == ("10.96.0.10", "fd00:10:96::10")
    assert (four.external_ips, six.external_ips) == (("198.51.100.1",), ("2001:db8::1",))
    assert (four.source_ranges, six.source_ranges) == (("192.0.2.0/24",), ("2001:db8:c::/64",))
    assert (four.load_balancer_vips, six.load_balancer_vips) == (("203.0.113.1",), ("2001:db8:e::1",))


@pytest.mark.parametrize(
    ("spec", "local"),
    [
        ({"externalTrafficPolicy": "Local"}, False),
        ({"externalTrafficPolicy": "Local", "externalIPs": ["198.51.100.1"]}, True),
        ({"externalTrafficPolicy": "Local", "type": "NodePort"}, True),
        ({"externalTrafficPolicy": "Local", "type": "LoadBalancer"}, True),
        ({"externalTrafficPolicy": "Cluster", "type": "NodePort"}, False),
        ({"type": "NodePort"}, False),
    ],
)
def test_external_policy_needs_a_way_in(spec: dict[str, Any], local: bool) -> None:
    (port,) = ports(spec)
    assert port.external_local is local


@pytest.mark.parametrize(
    ("spec", "number"),
    [
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, 32000),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}, 0),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, 0),
    ],
)
def test_health_check_node_port(spec: dict[str, Any], number: int) -> None:
    (port,) = ports(spec | {"healthCheckNodePort": 32000})
    assert port.health_check_node_port == number


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 0),
        ({"sessionAffinity": "ClientIP"}, 10_800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10_800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, 1),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_400}}}, 86_400),
    ],
)
def test_affinity(spec: dict[str, Any], seconds: int) -> None:
    (port,) = ports(spec)
    assert port.affinity_seconds == seconds


def annotated(value: str) -> dict[str, Any]:
    annotations = {"kproxy.dev/load-balancing": value, "else": "is ignored"}
    return {"metadata": {"name": "web", "namespace": "shop", "annotations": annotations}}


@pytest.mark.parametrize("value", LoadBalancing)
def test_load_balancing(value: LoadBalancing) -> None:
    (port,) = ports(**annotated(value))
    assert port.load_balancing is value
    (port,) = ports()
    assert port.load_balancing is None, "then as the node is configured"


@pytest.mark.parametrize("value", ["rr", "Round-Robin", "round-robin ", "'; drop"])
def test_load_balancing_that_nobody_knows_is_random_and_named(value: str) -> None:
    (port,), said = service_ports(service(**annotated(value)), IPFamily.IPV4)
    assert port.load_balancing is LoadBalancing.RANDOM
    assert [problem.field for problem in said] == ["metadata.annotations[kproxy.dev/load-balancing]"]
    assert "is not one of random, round-robin; taken as random" in said[0].reason


@pytest.mark.parametrize("mode", ["VIP", "", None])
def test_balancers_that_leave_the_destination(mode: str | None) -> None:
    (port,) = ports(
        {"type": "LoadBalancer"}, status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": mode}]}}
    )
    assert port.load_balancer_vips == ("203.0.113.1",)


# --- bad parts -----------------------------------------------------------------------------------------------------

BAD_PARTS: list[tuple[dict[str, Any], str, str]] = [
    ({"clusterIP": ""}, "spec.clusterIP", "missing"),
    ({"clusterIP": "10.96.0"}, "spec.clusterIPs[0]", "'10.96.0': not an IP address"),
    ({"clusterIP": "0.0.0.0"}, "spec.clusterIPs[0]", "'0.0.0.0': the unspecified address cannot be a destination"),
    ({"clusterIP": "224.0.0.1"}, "spec.clusterIPs[0]", "'224.0.0.1': a multicast address cannot be a destination"),
    ({"type": "Banana"}, "spec.type", "'Banana' is not one of ClusterIP, NodePort, LoadBalancer; taken as ClusterIP"),
    (
        {"internalTrafficPolicy": "local"},
        "spec.internalTrafficPolicy",
        "'local' is not one of Cluster, Local; taken as Cluster",
    ),
    (
        {"externalTrafficPolicy": "Lokal"},
        "spec.externalTrafficPolicy",
        "'Lokal' is not one of Cluster, Local; taken as Cluster",
    ),
    ({"sessionAffinity": "Cookie"}, "spec.sessionAffinity", "'Cookie' is not one of None, ClientIP; taken as None"),
    (
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": -1}}},
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "-1 is not in 1-86400; taken as 10800",
    ),
    ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", "'127.0.0.1': a loopback or link-local address is not"),
    ({"externalIPs": ["198.51.100.1", "x\n-j"]}, "spec.externalIPs[1]", r"'x\n-j': not an IP address"),
    ({"loadBalancerSourceRanges": ["192.0.2.0"]}, "spec.loadBalancerSourceRanges[0]", "'192.0.2.0': not a CIDR"),
    ({"ports": [{"port": 0}]}, "spec.ports[0].port", "0 is not in 1-65535; it is ignored"),
    ({"ports": [{"port": -80}]}, "spec.ports[0].port", "-80 is not in 1-65535; it is ignored"),
    ({"ports": [{"port": 65_536}]}, "spec.ports[0].port", "65536 is not in 1-65535; it is ignored"),
    ({"ports": [{"port": 80, "protocol": "tcp"}]}, "spec.ports[0].protocol", "'tcp' is not TCP, UDP or SCTP"),
    ({"ports": [{"port": 80, "name": 'a" -j X'}]}, "spec.ports[0].name", "'a\" -j X' is no valid port name"),
    ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[1]", "port '' 81/tcp is there twice; the first one counts"),
    (
        {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]},
        "spec.ports[1]",
        "port 'b' 80/tcp is there twice; the first one counts",
    ),
    (
        {"type": "NodePort", "ports": [{"port": 80, "nodePort": 70_000}]},
        "spec.ports[0].nodePort",
        "70000 is not in 1-65535; it is ignored",
    ),
    (
        {
            "type": "NodePort",
            "ports": [{"name": "a", "port": 1, "nodePort": 3}, {"name": "b", "port": 2, "nodePort": 3}],
        },
        "spec.ports[1].nodePort",
        "3/tcp is there twice; the first one counts",
    ),
    ({"ports": [{"port": 80, "nodePort": 30_080}]}, "spec.ports[0].nodePort", "only Services of type NodePort or Load"),
    (
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": -1},
        "spec.healthCheckNodePort",
        "-1 is not in 1-65535; it is ignored",
    ),
]


@pytest.mark.parametrize(("spec", "field", "reason"), BAD_PARTS)
def test_a_bad_part_is_named(spec: dict[str, Any], field: str, reason: str) -> None:
    found = problems(spec)
    assert list(found) == [field]
    assert found[field].startswith(reason)


@pytest.mark.parametrize(
    ("ingress", "vips", "field", "reason"),
    [
        ([{"hostname": "x"}, {"ip": "203.0.113"}], (), "ingress[1].ip", "'203.0.113': not an IP address"),
        (
            [{"ip": "203.0.113.1", "ipMode": "Vip"}, {"ip": "203.0.113.2"}],
            ("203.0.113.2",),
            "ingress[0].ipMode",
            "'Vip' is not one of VIP, Proxy; taken as Proxy",
        ),
    ],
)
def test_a_bad_ingress_is_named(ingress: list[Any], vips: tuple[str, ...], field: str, reason: str) -> None:
    found, said = service_ports(service(status={"loadBalancer": {"ingress": ingress}}), IPFamily.IPV4)
    assert found[0].load_balancer_vips == vips
    assert [(problem.field, problem.reason) for problem in said] == [(f"status.loadBalancer.{field}", reason)]


def test_a_bad_part_costs_nothing_else() -> None:
    good = {"name": "good", "port": 443}
    bad: list[dict[str, Any]] = [
        {"name": "zero", "port": 0},
        {"name": "x", "port": 1, "protocol": "ICMP"},
        {"name": "X_Y", "port": 2},
    ]
    found, _ = service_ports(
        service(
            {
                "type": "Banana",
                "ports": [bad[0], good, bad[1], bad[2], {"name": "again", "port": 443}],
                "externalIPs": ["nonsense", "198.51.100.1", "fe80::1", "300.1.1.1"],
                "internalTrafficPolicy": "Nowhere",
            }
        ),
        IPFamily.IPV4,
    )
    (port,) = found
    assert (port.name.port, port.port, port.external_ips, port.internal_local) == (
        "good",
        443,
        ("198.51.100.1",),
        False,
    )


@pytest.mark.parametrize(
    ("texts", "ranges"),
    [
        (["192.0.2.0/24", "nonsense"], ("192.0.2.0/24",)),
        (["nonsense"], ("0.0.0.0/32",)),
        (["2001:db8::/64"], ()),
        ([], ()),
        (["192.0.2.9/24"], ("192.0.2.0/24",)),
    ],
)
def test_a_typing_error_in_source_ranges_does_not_open_the_service(texts: list[str], ranges: tuple[str, ...]) -> None:
    found, _ = service_ports(service({"type": "LoadBalancer", "loadBalancerSourceRanges": texts}), IPFamily.IPV4)
    assert found[0].source_ranges == ranges


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "a b", "namespace": "shop"},
        {"name": "web", "namespace": ""},
        {"name": "w\nCOMMIT", "namespace": "shop"},
    ],
)
def test_a_service_whose_name_could_do_harm_is_ignored(metadata: dict[str, Any]) -> None:
    found, said = service_ports(service(metadata=metadata), IPFamily.IPV4)
    assert found == ()
    assert [problem.field for problem in said] == ["metadata"]
    assert all(str(problem).isprintable() for problem in said)
