"""Puts an explanation together."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.backends.packet import Packet, World
from kproxy.explain.compare import KernelRules, compare
from kproxy.explain.decision import decide
from kproxy.explain.model import Answer, EndpointShare, Flow, FrontendShown, Verdict
from kproxy.explain.near import near_address, near_name, near_port
from kproxy.explain.question import Question, ToAddress, ToNodePort, ToService
from kproxy.explain.sender import Sender, sender
from kproxy.explain.view import Met, View, first_with
from kproxy.plan.model import Plan, ServicePlan, Target
from kproxy.plan.reasons import why_unused
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePort, endpoint_text


class Kernel(NamedTuple):
    """What may be asked of the kernel."""

    rules: Callable[[IPFamily], KernelRules] | None = None
    """The rules it holds. May raise `kproxy.backends.base.BackendError`."""
    interface_of: Callable[[str], str | None] = lambda _: None
    """By which interface packets of an address come in, if that is known."""
    flows: Callable[[IPFamily, Protocol, str, int], Sequence[Flow]] = lambda *_: ()
    """What conntrack holds for a destination."""


def explain(views: Sequence[View], question: Question, kernel: Kernel | None = None) -> Answer:
    """Return what is to be said about a connection; ``views`` are of the families that the node serves."""
    if question.family is not None:
        views = [view for view in views if view.family is question.family]
    destination = question.destination
    if isinstance(destination, ToService):
        return _by_name(views, question, destination, kernel)
    view = next(iter(views), None)
    if view is None:
        return _nobody(question, "iptables", "this node does not serve the address family")
    to = ToAddress(_own_address(view), destination.port) if isinstance(destination, ToNodePort) else destination
    return _Explanation(view, question, to, question.protocol or Protocol.TCP, kernel).answer()


def _own_address(view: View) -> str:
    """Return the node's address that answers at node ports."""
    ips = view.plan.node.node_port_ips
    primary = view.facts.ips.get(view.family)
    if ips and primary not in ips:
        return ips[0]
    if primary is not None:
        return primary
    others = sorted(ip for ip in view.addresses if not ipaddress.ip_address(ip).is_loopback)
    return next(iter(others), "127.0.0.1" if view.family is IPFamily.IPV4 else "::1")


def _by_name(views: Sequence[View], question: Question, to: ToService, kernel: Kernel | None) -> Answer:
    key = ObjectKey(to.namespace, to.name)
    view = first_with(views, key)
    if view is None:
        mode = views[0].mode if views else "iptables"
        near = near_name(views, to)
        known = any(key in view.tracker.unproxied for view in views)
        untold = (_UNTOLD,) if kernel is not None and not known else ()
        return _nobody(question, mode, f"there is no Service {to} that kproxy serves", near, notes=untold)
    ports = view.ports_of(key)
    fitting = [port for port in ports if _fits(port, to.port, question.protocol)]
    if not fitting:
        wanted = f" {question.protocol.upper()}" if question.protocol and not to.port else ""
        reason = f"{to} has no such{wanted} port"
        return _nobody(question, view.mode, reason, near_port(ports, to), str(key))
    port, others = fitting[0], fitting[1:]
    address = ToAddress(port.cluster_ip, port.port)
    notes = [f"{to} has other ports, too: {', '.join(map(_spelt, others))}"] if others else []
    return _Explanation(view, question, address, port.name.protocol, kernel, notes).answer()


_UNTOLD = "headless Services (clusterIP None) are none of kproxy's: DNS gives their pods' own addresses"
"""What only the API server could tell: the daemon asks for no such Services."""


def _fits(port: ServicePort, wanted: str, protocol: Protocol | None) -> bool:
    if protocol is not None and port.name.protocol is not protocol:
        return False
    return wanted in ("", port.name.port, str(port.port))


def _spelt(port: ServicePort) -> str:
    return f"{port.name.port or port.port} ({port.port}/{port.name.protocol.upper()})"


def _nobody(
    question: Question,
    mode: str,
    reason: str,
    near: tuple[str, ...] = (),
    service: str | None = None,
    notes: tuple[str, ...] = (),
) -> Answer:
    return Answer(
        destination=question.text,
        source="",
        sender=question.sender,
        protocol=str(question.protocol or Protocol.TCP),
        mode=mode,
        service=service,
        verdict=Verdict.NONE,
        reason=reason,
        near=near,
        notes=notes,
    )


class _Explanation:
    """One connection, by address."""

    def __init__(
        self,
        view: View,
        question: Question,
        to: ToAddress,
        protocol: Protocol,
        kernel: Kernel | None,
        notes: Sequence[str] = (),
    ) -> None:
        self.view = view
        self.question = question
        self.to = to
        self.protocol = protocol
        self.kernel = kernel
        self.notes = list(notes)
        self.sender = self._sender()
        self.packet = Packet(self.sender.ip, to.ip, to.port, protocol, self.sender.in_interface)
        self.world = World(view.addresses)
        self.decision = decide(view, self.packet, self.world)

    def _sender(self) -> Sender:
        said = self.question.sender
        interface = None
        if self.kernel is not None and said not in ("pod", "node", "outside"):
            interface = self.kernel.interface_of(said)
        return sender(self.view, said, self.to.ip, interface)

    def answer(self) -> Answer:
        """Return all of it."""
        decision = self.decision
        met = decision.met
        self.notes += [*self._losers(), *self._own_loopback()]
        answer = Answer(
            destination=self.question.text,
            address=endpoint_text(self.to.ip, self.to.port),
            source=self.sender.ip,
            sender=self.sender.kind,
            protocol=str(self.protocol),
            mode=self.view.mode,
            service=str(met.service.name) if met else None,
            frontend=_frontend(met, self.to) if met else None,
            verdict=decision.verdict,
            reason=decision.reason,
            masquerade=self._masquerade(),
            masquerade_reason=self._masquerade_reason(),
            balancing=self._balancing(),
            affinity_seconds=met.service.affinity_seconds if met else 0,
            endpoints=tuple(self._endpoints(met.service)) if met else (),
            near=near_address(self.view, self.to, self.protocol) if met is None else (),
            notes=tuple(self.notes),
        )
        return self._with_kernel(answer)

    def _balancing(self) -> str | None:
        decision = self.decision
        if decision.verdict is not Verdict.FORWARD:
            return None
        return "in turn" if decision.route is not None and decision.route.in_turn else "at random"

    def _losers(self) -> Iterator[str]:
        """Name those who want the same address and port, and do not get it."""
        met = self.decision.met
        for loss in self.view.losses:
            claim = loss.claim
            if met is not None and (claim.ip, claim.port, claim.protocol) == (
                met.frontend.ip,
                met.frontend.port,
                self.protocol,
            ):
                yield f"{loss.loser} names {claim}, too, and loses it to {loss.owner}, {loss.reason}"

    def _own_loopback(self) -> Iterator[str]:
        """Say that a pod's 127.0.0.1 is the pod's."""
        if self.sender.kind != "node" and ipaddress.ip_address(self.to.ip).is_loopback:
            yield f"{self.to.ip} is whoever says it: only from the node itself do packets to it come here (--from node)"

    def _with_kernel(self, answer: Answer) -> Answer:
        if self.kernel is None or self.kernel.rules is None:
            return answer
        with closing(self.kernel.rules(self.view.family)) as rules:
            compared = compare(rules, self._plan(), self.packet, self.world, self.decision.outcomes())
        flows = self.kernel.flows(self.view.family, self.protocol, self.to.ip, self.to.port)
        return msgspec.structs.replace(
            answer,
            flows=tuple(flows),
            rules=compared.rules,
            elements=compared.elements,
            kernel=compared.kernel,
            differences=compared.differences,
            doubts=compared.doubts,
            notes=(*answer.notes, *compared.notes, *self._kept(flows)),
        )

    def _kept(self, flows: Sequence[Flow]) -> Iterator[str]:
        """Say where session affinity keeps a client that has connections: shares are those of one that has none."""
        met = self.decision.met
        if met is None or not met.service.affinity_seconds or self.decision.verdict is not Verdict.FORWARD:
            return
        used = {str(endpoint) for endpoint in self.decision.pool}
        for to in dict.fromkeys(flow.goes_to for flow in flows if flow.source == self.sender.ip):
            if to in used:
                yield (
                    f"session affinity: {self.sender.ip} has connections to {to}, and new ones go there, too, within "
                    f"{met.service.affinity_seconds} s of the last; the shares are those of a client that comes anew"
                )

    def _plan(self) -> Plan:
        """Return a plan of nothing but the services that the packet may concern."""
        concerned = [met.service for met in (self.decision.met, *self.decision.also) if met is not None]
        return Plan(node=self.view.plan.node, services={service.name: service for service in concerned})

    # --- masquerading ----------------------------------------------------------------------------------------------

    def _masquerade(self) -> bool | str:
        decision = self.decision
        if decision.verdict is not Verdict.FORWARD:
            return False
        masqueraded = [decision.masquerades(endpoint) for endpoint in decision.pool]
        if all(masqueraded):
            return True
        if any(masqueraded):
            return "hairpin" if not decision.masquerading.done else True
        return "hairpin" if self._may_hairpin() else False

    def _may_hairpin(self) -> bool:
        """Tell whether any pod of this node is asked about, and some of them are endpoints."""
        met = self.decision.met
        if met is None or not (self.sender.kind == "pod" and self.sender.some):
            return False
        return any(endpoint.is_local for endpoint in self.decision.pool)

    def _masquerade_reason(self) -> str | None:
        decision = self.decision
        if decision.verdict is not Verdict.FORWARD:
            return None
        masquerade = self._masquerade()
        if decision.masquerading.done or not masquerade:
            return decision.masquerading.reason
        hairpin = "an endpoint that is sent to itself must see another address than its own"
        return hairpin if masquerade is True else f"{decision.masquerading.reason}; {hairpin}"

    # --- endpoints -------------------------------------------------------------------------------------------------

    def _endpoints(self, service: ServicePlan) -> Iterator[EndpointShare]:
        decision = self.decision
        known = self.view.endpoints(service.name)
        for endpoint in known:
            share = decision.share(endpoint)
            yield EndpointShare(
                address=str(endpoint),
                share=round(float(share), 9),
                reason=None if share else self._why_unused(endpoint, known),
                masquerade=bool(share) and decision.masquerades(endpoint),
                local=endpoint.is_local,
            )
        if not known:
            yield from self._of_other_ports(service)

    def _why_unused(self, endpoint: Endpoint, known: Sequence[Endpoint]) -> str:
        decision = self.decision
        service = decision.met.service if decision.met else None
        local = decision.local or (decision.route is not None and decision.route.to in (Target.LOCAL, Target.DROP))
        usable = service is not None and endpoint in service.reachable_endpoints
        if decision.verdict is not Verdict.FORWARD and usable and (endpoint.is_local or not local):
            return "could serve, but this connection does not get there"
        if usable and decision.verdict is Verdict.FORWARD and endpoint.is_local:
            return "session affinity keeps the client at another endpoint"
        return why_unused(endpoint, known, local=local, node_name=self.view.facts.name).value

    def _of_other_ports(self, service: ServicePlan) -> Iterator[EndpointShare]:
        """Yield the endpoints of slices whose ports have other names than the Service's."""
        name = service.name
        for (port, protocol), endpoints in sorted(self.view.ports_in_slices(name.service).items()):
            for endpoint in endpoints:
                yield EndpointShare(
                    address=str(endpoint),
                    share=0.0,
                    reason=f"its port is named '{port}' ({protocol.upper()}), the Service's '{name.port}' "
                    f"({name.protocol.upper()})",
                    local=endpoint.is_local,
                )


def _frontend(met: Met, to: ToAddress) -> FrontendShown:
    return FrontendShown(kind=met.frontend.kind.value, address=met.frontend.ip or to.ip, port=met.frontend.port)
