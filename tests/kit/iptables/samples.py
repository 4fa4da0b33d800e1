"""A small ruleset as kproxy writes it, for tests of what happens to rulesets whatever is in them."""

from collections.abc import Iterable, Mapping

from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
    Comment,
    DestinationNat,
    DestinationPort,
    Hook,
    Jump,
    Mark,
    MasqueradeSource,
    Prefix,
    Random,
    Reject,
    Rule,
    RuleSet,
    SetMark,
    Table,
)
from kproxy.state.model import IPFamily, Protocol

_MASQUERADED = 0x4000
TCP = Protocol.TCP


def service_address(family: IPFamily, number: int) -> Prefix:
    return Prefix(f"10.96.0.{number}/32" if family is IPFamily.IPV4 else f"fd00:10:96::{number:x}/128")


def pod_address(family: IPFamily, number: int) -> str:
    return f"10.244.0.{number}" if family is IPFamily.IPV4 else f"fd00:244::{number:x}"


def service_chain(number: int) -> str:
    return f"KUBE-SVC-{number:016d}"


def endpoint_chain(service: int, pod: int) -> str:
    return f"KUBE-SEP-{service:08d}{pod:08d}"


def frontend(family: IPFamily, number: int) -> Rule:
    """The rule that leads from the list of services to one of them."""
    return Rule(
        destination=service_address(family, number),
        protocol=TCP,
        matches=(Comment(f"demo/service-{number}:http cluster IP"), DestinationPort(TCP, 80, 80)),
        target=Jump(service_chain(number)),
    )


def rejection(family: IPFamily, number: int) -> Rule:
    """The rule that refuses connections to a service without endpoints."""
    return Rule(
        destination=service_address(family, number),
        protocol=TCP,
        matches=(Comment(f"demo/service-{number}:http has no endpoints"), DestinationPort(TCP, 80, 80)),
        target=Reject(),
    )


def service_chains(family: IPFamily, number: int, pods: Iterable[int]) -> dict[str, Chain]:
    """One service's chains in nat."""
    pods = list(pods)
    chains: dict[str, Chain] = {}
    spread: list[Rule] = []
    for index, pod in enumerate(pods):
        left = len(pods) - index
        draw = (Random(round(Random.ONE / left)),) if left > 1 else ()
        name = Comment(f"demo/service-{number}:http -> {pod}")
        spread.append(Rule(matches=(name, *draw), target=Jump(endpoint_chain(number, pod))))
        ip = pod_address(family, pod)
        chains[endpoint_chain(number, pod)] = (
            Rule(source=Prefix(f"{ip}/{32 if family is IPFamily.IPV4 else 128}"), target=Jump("KUBE-MARK-MASQ")),
            Rule(protocol=TCP, matches=(DestinationPort(TCP, 0, 65_535),), target=DestinationNat(ip, 8080)),
        )
    chains[service_chain(number)] = tuple(spread)
    return chains


def sample(family: IPFamily, services: Mapping[int, Iterable[int]]) -> RuleSet:
    """All rules for services given by number, each with its pods; one without is rejected."""
    with_pods = {number: list(pods) for number, pods in services.items() if pods}
    nat: dict[str, Chain] = {
        "KUBE-SERVICES": tuple(frontend(family, number) for number in with_pods),
        "KUBE-MARK-MASQ": (Rule(target=SetMark(_MASQUERADED, _MASQUERADED)),),
        "KUBE-POSTROUTING": (Rule(matches=(Mark(_MASQUERADED, _MASQUERADED),), target=MasqueradeSource()),),
    }
    for number, pods in with_pods.items():
        nat |= service_chains(family, number, pods)
    rejected = tuple(rejection(family, number) for number in services if number not in with_pods)
    forward = Rule(matches=(Mark(_MASQUERADED, _MASQUERADED),), target=Accept())
    to_services = Rule(matches=(Comment("kubernetes service portals"),), target=Jump("KUBE-SERVICES"))
    return RuleSet(
        filter=Table(
            {"KUBE-SERVICES": rejected, "KUBE-FORWARD": (forward,)},
            (
                Hook("FORWARD", Rule(target=Jump("KUBE-FORWARD"))),
                Hook("FORWARD", to_services),
                Hook("OUTPUT", to_services),
            ),
        ),
        nat=Table(
            nat,
            (
                Hook("PREROUTING", to_services),
                Hook("OUTPUT", to_services),
                Hook("POSTROUTING", Rule(target=Jump("KUBE-POSTROUTING"))),
            ),
        ),
    )
