"""Kubernetes DNS-Based Service Discovery 1.1.0, as a table: each record that it asks for, and what must not be."""

import asyncio
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from dns.message import Message
from dns.name import Name
from dns.rdatatype import RdataType

from hack.tour.dns.answers import Ask, respond
from hack.tour.dns.cluster import ClusterZone
from hack.tour.dns.objects import read

MANIFESTS = """
{apiVersion: v1, kind: Service, metadata: {name: kubernetes, namespace: default},
 spec: {clusterIP: 10.3.0.1, ports: [{name: https, port: 443, protocol: TCP}, {port: 9}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: both, namespace: default},
 spec: {clusterIP: 10.3.0.2, clusterIPs: [10.3.0.2, "fd00::2"], ports: [{name: DNS, port: 53, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless, namespace: default},
 spec: {clusterIP: None, ports: [{name: https, port: 443}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: headless-1, namespace: default, labels: {kubernetes.io/service-name: headless}},
 ports: [{name: https, port: 443, protocol: TCP}, {name: "", port: 7}],
 endpoints: [{addresses: [10.3.0.100], hostname: my-pet}, {addresses: [10.3.0.101], conditions: {ready: true}},
             {addresses: [10.3.0.102], hostname: asleep, conditions: {ready: false}}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv6,
 metadata: {name: headless-2, namespace: default, labels: {kubernetes.io/service-name: headless}},
 ports: [{name: https, port: 443, protocol: TCP}],
 endpoints: [{addresses: ["fd00::100"], hostname: my-pet}]}
---
{apiVersion: v1, kind: Service, metadata: {name: asleep, namespace: default},
 spec: {clusterIP: None, ports: [{name: https, port: 443}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: asleep-1, namespace: default, labels: {kubernetes.io/service-name: asleep}},
 ports: [{name: https, port: 443}], endpoints: [{addresses: [10.3.0.110], conditions: {ready: false}}]}
---
{apiVersion: v1, kind: Service, metadata: {name: early, namespace: default},
 spec: {clusterIP: None, publishNotReadyAddresses: true, ports: [{name: https, port: 443}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: early-1, namespace: default, labels: {kubernetes.io/service-name: early}},
 ports: [{name: https, port: 443}], endpoints: [{addresses: [10.3.0.120], conditions: {ready: false}}]}
---
{apiVersion: v1, kind: Service, spec: {clusterIP: None}, metadata: {name: eager, namespace: default,
 annotations: {service.alpha.kubernetes.io/tolerate-unready-endpoints: "true"}}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: eager-1, namespace: default, labels: {kubernetes.io/service-name: eager}},
 endpoints: [{addresses: [10.3.0.130], conditions: {ready: false}}]}
---
{apiVersion: v1, kind: Service, metadata: {name: foo, namespace: default},
 spec: {type: ExternalName, externalName: www.example.com}}
---
{apiVersion: v1, kind: Service, metadata: {name: inner, namespace: default},
 spec: {type: ExternalName, externalName: kubernetes.default.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: nowhere, namespace: default},
 spec: {type: ExternalName, externalName: nothing.default.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: circle, namespace: default},
 spec: {type: ExternalName, externalName: circle.default.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: waiting, namespace: default}, spec: {ports: [{port: 80}]}}
"""
ZONE = ClusterZone(dns.name.from_text("cluster.local"), read([MANIFESTS]))
SVC = "default.svc.cluster.local."


def respond_to(name: str, kind: str, ask: Ask | None = None) -> Message:
    return asyncio.run(respond(dns.message.make_query(name, kind), ZONE, ask))


def lines(section: Iterable[dns.rrset.RRset]) -> list[str]:
    return sorted(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {data}" for rrset in section for data in rrset)


def reverse(address: str) -> str:
    return dns.reversename.from_address(address).to_text()


RECORDS = [
    # section, name, type, answers
    ("2.2", "dns-version.cluster.local.", "TXT", ['"1.1.0"']),
    ("2.3.1", f"kubernetes.{SVC}", "A", ["10.3.0.1"]),
    ("2.3.1", f"both.{SVC}", "A", ["10.3.0.2"]),
    ("2.3.1", f"both.{SVC}", "AAAA", ["fd00::2"]),
    ("2.1: case", f"KuberneTES.{SVC.upper()}", "A", ["10.3.0.1"]),
    ("2.3.2", f"_https._tcp.kubernetes.{SVC}", "SRV", [f"0 100 443 kubernetes.{SVC}"]),
    ("2.3.2", f"_dns._udp.both.{SVC}", "SRV", [f"0 100 53 both.{SVC}"]),
    ("2.3.3", "1.0.3.10.in-addr.arpa.", "PTR", [f"kubernetes.{SVC}"]),
    ("2.3.3", reverse("fd00::2"), "PTR", [f"both.{SVC}"]),
    ("2.4.1", f"headless.{SVC}", "A", ["10.3.0.100", "10.3.0.101"]),
    ("2.4.1", f"headless.{SVC}", "AAAA", ["fd00::100"]),
    ("2.4.1", f"my-pet.headless.{SVC}", "A", ["10.3.0.100"]),
    ("2.4.1", f"my-pet.headless.{SVC}", "AAAA", ["fd00::100"]),
    ("2.4.1", f"10-3-0-101.headless.{SVC}", "A", ["10.3.0.101"]),
    (
        "2.4.2",
        f"_https._tcp.headless.{SVC}",
        "SRV",
        [f"0 50 443 10-3-0-101.headless.{SVC}", f"0 50 443 my-pet.headless.{SVC}"],
    ),
    ("2.4.3", "100.0.3.10.in-addr.arpa.", "PTR", [f"my-pet.headless.{SVC}"]),
    ("2.4.3", reverse("fd00::100"), "PTR", [f"my-pet.headless.{SVC}"]),
    ("2.4.3", "101.0.3.10.in-addr.arpa.", "PTR", [f"10-3-0-101.headless.{SVC}"]),
    ("2.1: ready", f"early.{SVC}", "A", ["10.3.0.120"]),
    ("2.1: ready", f"_https._tcp.early.{SVC}", "SRV", [f"0 100 443 10-3-0-120.early.{SVC}"]),
    ("2.1: ready", f"eager.{SVC}", "A", ["10.3.0.130"]),
    ("2.5", f"foo.{SVC}", "CNAME", ["www.example.com."]),
    ("2.6", "10-3-0-7.default.pod.cluster.local.", "A", ["10.3.0.7"]),
    ("2.6", "fd00--7.default.pod.cluster.local.", "AAAA", ["fd00::7"]),
]


@pytest.mark.parametrize(("section", "name", "kind", "answers"), RECORDS)
def test_records_that_must_be(section: str, name: str, kind: str, answers: list[str]) -> None:
    response = respond_to(name, kind)
    assert response.rcode() == dns.rcode.NOERROR, section
    assert lines(response.answer) == [f"{name} {kind} {answer}" for answer in answers]
    assert response.flags & dns.flags.AA


NXDOMAIN = [
    f"nothing.{SVC}",
    "kubernetes.elsewhere.svc.cluster.local.",
    f"asleep.{SVC}",  # 2.4.1: headless, and no endpoint is ready
    f"_https._tcp.asleep.{SVC}",
    f"10-3-0-110.asleep.{SVC}",
    f"asleep.headless.{SVC}",  # an endpoint that is not ready
    f"waiting.{SVC}",  # no address yet
    f"my-pet.kubernetes.{SVC}",
    f"_https._udp.kubernetes.{SVC}",
    f"__tcp.kubernetes.{SVC}",  # an unnamed port
    "nothing.cluster.local.",
    "10-3-0.default.pod.cluster.local.",
]


@pytest.mark.parametrize("kind", ["A", "AAAA", "SRV"])
@pytest.mark.parametrize("name", NXDOMAIN)
def test_names_that_must_not_be(name: str, kind: str) -> None:
    response = respond_to(name, kind)
    assert (response.rcode(), response.answer) == (dns.rcode.NXDOMAIN, [])
    assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"kubernetes.{SVC}", "AAAA"),  # a Service of one family
        (f"kubernetes.{SVC}", "TXT"),
        (f"10-3-0-101.headless.{SVC}", "AAAA"),
        (f"early.{SVC}", "AAAA"),
        (f"_https._tcp.kubernetes.{SVC}", "A"),
        (f"_tcp.kubernetes.{SVC}", "SRV"),  # names that only lead to others
        (SVC, "A"),
        ("svc.cluster.local.", "A"),
        ("cluster.local.", "A"),
        ("dns-version.cluster.local.", "A"),
        ("1.0.3.10.in-addr.arpa.", "A"),
        ("10-3-0-7.default.pod.cluster.local.", "AAAA"),
        ("default.pod.cluster.local.", "A"),
    ],
)
def test_names_that_are_without_such_a_record(name: str, kind: str) -> None:
    response = respond_to(name, kind)
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
    assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]
    assert response.flags & dns.flags.AA


def test_addresses_go_with_the_names_of_srv_records() -> None:
    response = respond_to(f"_https._tcp.headless.{SVC}", "SRV")
    assert lines(response.additional) == [
        f"10-3-0-101.headless.{SVC} A 10.3.0.101",
        f"my-pet.headless.{SVC} A 10.3.0.100",
        f"my-pet.headless.{SVC} AAAA fd00::100",
    ]


# Names that stand for others, and names that others know.


async def somebody(name: Name, kind: RdataType) -> Message:
    """Knows www.example.com, and that there is no other name."""
    response = dns.message.make_response(dns.message.make_query(name, kind))
    if name == dns.name.from_text("www.example.com") and kind == dns.rdatatype.A:
        response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.53"))
    elif name != dns.name.from_text("www.example.com"):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response


async def nobody(name: Name, kind: RdataType) -> None:
    """Does not answer."""


@pytest.mark.parametrize(
    ("ask", "name", "kind", "rcode", "answers"),
    [
        (somebody, f"foo.{SVC}", "A", "NOERROR",
         [f"foo.{SVC} CNAME www.example.com.", "www.example.com. A 192.0.2.53"]),
        (somebody, f"foo.{SVC}", "AAAA", "NOERROR", [f"foo.{SVC} CNAME www.example.com."]),
        (None, f"foo.{SVC}", "A", "NOERROR", [f"foo.{SVC} CNAME www.example.com."]),
        (nobody, f"foo.{SVC}", "A", "SERVFAIL", [f"foo.{SVC} CNAME www.example.com."]),
        (None, f"inner.{SVC}", "A", "NOERROR",
         [f"inner.{SVC} CNAME kubernetes.{SVC}", f"kubernetes.{SVC} A 10.3.0.1"]),
        (None, f"nowhere.{SVC}", "A", "NXDOMAIN", [f"nowhere.{SVC} CNAME nothing.{SVC}"]),
        (None, f"circle.{SVC}", "A", "SERVFAIL", [f"circle.{SVC} CNAME circle.{SVC}"] * 8),
        (somebody, "www.example.com.", "A", "NOERROR", ["www.example.com. A 192.0.2.53"]),
        (somebody, "other.example.com.", "A", "NXDOMAIN", []),
        (somebody, "9.9.9.9.in-addr.arpa.", "PTR", "NXDOMAIN", []),
        (None, "www.example.com.", "A", "REFUSED", []),
        (nobody, "www.example.com.", "A", "SERVFAIL", []),
    ],
)  # fmt: skip
def test_other_names(ask: Ask | None, name: str, kind: str, rcode: str, answers: list[str]) -> None:
    response = respond_to(name, kind, ask)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert lines(response.answer) == answers
    assert bool(response.flags & dns.flags.RA) == (ask is not None)


def test_what_is_no_question_of_ours_is_turned_down() -> None:
    assert respond_to("cluster.local.", "AXFR").rcode() == dns.rcode.REFUSED
    chaos = dns.message.make_query("version.bind.", "TXT", "CH")
    assert asyncio.run(respond(chaos, ZONE, None)).rcode() == dns.rcode.REFUSED
    empty = dns.message.make_query("cluster.local.", "A")
    empty.question.clear()
    assert asyncio.run(respond(empty, ZONE, None)).rcode() == dns.rcode.FORMERR


def test_one_bad_object_takes_no_other_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    zone = ClusterZone(dns.name.from_text("cluster.local"), read([MANIFESTS, f"""
{{apiVersion: v1, kind: Service, metadata: {{name: {"x" * 64}}}, spec: {{clusterIP: 10.3.0.9}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: odd}}, spec: {{clusterIP: ten}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: dotted}}, spec: {{type: ExternalName, externalName: a..b}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: 7}}, spec: {{clusterIP: 10.3.0.8}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {{name: headless-3, namespace: default, labels: {{kubernetes.io/service-name: headless}}}},
 endpoints: [{{addresses: [10.3.0.300]}}, {{addresses: [10.3.0.140]}}]}}
"""]))  # fmt: skip
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 5
    assert [line.partition(":")[0] for line in told] == ["dns"] * 5
    headless = zone.node(dns.name.from_text(f"headless.{SVC}"))
    assert headless is not None
    assert {str(data) for data in headless[dns.rdatatype.A]} == {"10.3.0.100", "10.3.0.101", "10.3.0.140"}
    assert zone.node(dns.name.from_text(f"kubernetes.{SVC}"))
