"""An `Answer` as text for people."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from kproxy.explain.model import AS_PLANNED, Answer, EndpointShare, RulePassed, Verdict
from kproxy.tools.screen import faint, one_line, paint, strong, table

_COLOURS = {Verdict.FORWARD: "green", Verdict.REJECT: "red", Verdict.DROP: "red", Verdict.NONE: "yellow"}
_SAYS = {
    Verdict.FORWARD: "forwarded",
    Verdict.REJECT: "refused",
    Verdict.DROP: "dropped",
    Verdict.NONE: "no Service is met",
}
_SENDERS = {
    "pod": "a pod of this node ({})",
    "node": "the node itself ({})",
    "outside": "somebody outside the cluster ({})",
}
_MOST_ENDPOINTS = 40
_MOST_RULES = 60


def as_text(answer: Answer) -> str:
    """Return what ``kproxy explain`` prints."""
    return "\n".join(_lines(answer)) + "\n"


def _lines(answer: Answer) -> Iterator[str]:
    yield strong(_title(answer))
    if answer.source:
        yield f"from {_SENDERS.get(answer.sender, '{}').format(answer.source)}, mode {answer.mode}"
    yield ""
    yield from _pairs(answer)
    yield from (f"  {one_line(note)}" for note in answer.notes)
    if answer.near:
        yield ""
        yield strong("What may have been meant")
        yield from (f"  {one_line(line)}" for line in answer.near)
    if answer.endpoints:
        yield ""
        yield from _endpoints(answer)
    yield from _flows(answer)
    yield from _kernel(answer)


def _title(answer: Answer) -> str:
    address = f"{answer.address}/{answer.protocol.upper()}" if answer.address else answer.destination
    if answer.service is None:
        return one_line(address)
    kind = f" ({answer.frontend.kind})" if answer.frontend else ""
    return one_line(f"{answer.service}  {address}{kind}")


def _pairs(answer: Answer) -> Iterator[str]:
    verdict = paint(_SAYS[answer.verdict], _COLOURS[answer.verdict], bold=True)
    rows = [["verdict", f"{verdict}: {one_line(answer.reason)}"]]
    if answer.verdict is Verdict.FORWARD:
        rows.append(["source", f"{_source(answer)}: {answer.masquerade_reason}"])
        affinity = (
            f", and a client keeps its endpoint for {answer.affinity_seconds} s" if answer.affinity_seconds else ""
        )
        rows.append(["balancing", f"{answer.balancing}{affinity}"])
    yield table(rows)


def _source(answer: Answer) -> str:
    if answer.masquerade == "hairpin":
        return "kept, but for connections of an endpoint to itself"
    return "replaced by the node's" if answer.masquerade else "kept"


def _endpoints(answer: Answer) -> Iterator[str]:
    shown = sorted(answer.endpoints, key=lambda endpoint: not endpoint.share)[:_MOST_ENDPOINTS]
    rows = [_endpoint_row(endpoint) for endpoint in shown]
    yield table(rows, ("ENDPOINT", "SHARE", "WHERE", "WHY NOT"), right=(1,))
    if len(answer.endpoints) > len(shown):
        yield f"  and {len(answer.endpoints) - len(shown)} more (-o json shows all)"


def _endpoint_row(endpoint: EndpointShare) -> list[str]:
    share = f"{100 * endpoint.share:.4g} %" if endpoint.share else "-"
    where = "this node" if endpoint.local else ""
    row = [endpoint.address, share, where, one_line(endpoint.reason or "")]
    return row if endpoint.share else [faint(cell) if cell else cell for cell in row]


def _flows(answer: Answer) -> Iterator[str]:
    if not answer.flows:
        return
    yield ""
    yield strong("Connections that conntrack holds")
    rows = [[flow.source, flow.goes_to, str(flow.number)] for flow in answer.flows]
    yield table(rows, ("FROM", "GO TO", "NUMBER"), right=(2,))


def _kernel(answer: Answer) -> Iterator[str]:
    if answer.kernel is None:
        return
    yield ""
    if answer.rules:
        yield strong("Rules on its way, as the kernel holds them")
        rows = list(_rule_rows(answer.rules))
        yield table(rows[:_MOST_RULES], ("WHERE", "PACKETS", "RULE"), right=(1,))
        if len(rows) > _MOST_RULES:
            yield f"  and {len(rows) - _MOST_RULES} more (-o json shows all)"
    else:
        yield "No rule is on its way in the kernel."
    if answer.elements:
        yield ""
        yield strong("Elements of sets that it is found by")
        found = answer.elements[:_MOST_RULES]
        yield table(
            [[one.set, str(one.packets), one.element] for one in found], ("SET", "PACKETS", "ELEMENT"), right=(1,)
        )
    yield ""
    colour = "green" if answer.kernel == AS_PLANNED else "red"
    verdict = "does as planned" if answer.kernel == AS_PLANNED else "differs from the plan"
    yield f"{strong('The kernel')} {paint(verdict, colour, bold=True)}"
    yield from (f"  {one_line(difference.what)}" for difference in answer.differences)
    yield from (paint(f"  {one_line(doubt)}", "yellow") for doubt in answer.doubts)


def _rule_rows(rules: Sequence[RulePassed]) -> Iterator[list[str]]:
    """Yield a row for each rule; of those that follow each other and say the same, one."""
    for (place, packets, text), same in groupby(rules, key=_row_key):
        numbers = [rule.number for rule in same]
        number = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        yield [f"{place} {number}", _packets(packets), one_line(text)]


def _row_key(rule: RulePassed) -> tuple[str, int | None, str]:
    return f"{rule.table} {rule.chain}", rule.packets, rule.rule


def _packets(packets: int | None) -> str:
    return "" if packets is None else str(packets)
