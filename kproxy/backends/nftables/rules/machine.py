"""What each term of a rule does to a packet, as nf_tables has it.

A rule ends at its first false term, a lookup that finds nothing is false, dnat and masquerade end the walk through
their base chain. What others' rules ask for and kproxy does not know ends the rule, and is noted as a doubt; see
`kproxy.backends.walk`.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction

from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.ruleset import (
    Accept,
    CameBy,
    Chance,
    Column,
    Count,
    CountFor,
    Data,
    Deliver,
    DeliverTo,
    FlipMark,
    FromPrefix,
    GoTo,
    GoToFound,
    InStates,
    Jump,
    Key,
    Marked,
    Member,
    Numbers,
    Own,
    PortIs,
    Redirect,
    Remember,
    Returning,
    Rule,
    SetMark,
    SetSpec,
    SourceNat,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Turn,
    Unjudged,
    Verdict,
)
from kproxy.backends.packet import (
    DROPPED,
    REFUSED,
    Packet,
    Skb,
    Spread,
    came_by,
    changed,
    remember,
    total,
    within,
)
from kproxy.backends.walk import At, ImpossibleRuleError, Machine, Walked
from kproxy.state.model import Protocol

_MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE


class RuleMachine(Machine[Rule]):
    """The rules of one table."""

    most_depth = _MAX_DEPTH
    name = names.TABLE
    """What the table is called."""

    # --- what the table holds --------------------------------------------------------------------------------------

    def table(self, chain: str) -> str:
        """See `Machine`."""
        del chain
        return self.name

    @abstractmethod
    def spec(self, name: str) -> SetSpec | None:
        """Return how a set is declared; None if it is not there."""

    @abstractmethod
    def find(self, name: str, key: Key) -> tuple[Data] | None:
        """Look for an element: what it leads to, as a tuple of one; None if there is none."""

    @abstractmethod
    def remembers_seconds(self, name: str, numbers: Numbers) -> int:
        """Return for how long a set remembers clients of an endpoint."""

    def has_counter(self, name: str) -> bool:
        """Tell whether there is a counter of that name."""
        del name
        return True

    # --- rules -----------------------------------------------------------------------------------------------------

    def carry_out(self, number: int, alive: Spread, at: At) -> tuple[Walked, Spread]:
        """See `Machine`."""
        here, on, walked = alive, Spreads(), Walked()
        noted = False
        strange: list[str] = []
        for term in self.rules(at.step.place.chain)[number]:
            if not here:
                break
            if isinstance(term, Unjudged):
                strange.append(term.text)
            elif not isinstance(term, _ACTIONS):
                here, missed = self._split(term, here, at)
                on.add(missed)
            elif strange:
                break
            else:
                if not noted:
                    at.tried(here)
                    noted = True
                here, missed, ended = self._action(term, here, at)
                on.add(missed)
                walked = walked.plus(ended)
        if here and strange:  # all that can be judged is so: the rest decides, and is taken not to be so
            at.doubts(" and ".join(strange))
        on.add(here)
        return walked, on.sum

    def _action(self, term: Term, here: Spread, at: At) -> tuple[Spread, Spread, Walked]:
        """Carry out a term that does something.

        Return those packets that go on to the next term, those that go on to the next rule, and what ends here.
        """
        match term:
            case Jump(chain):
                ended, back = self.jump(chain, here, at)
                return {}, back, ended
            case GoTo(chain):
                return {}, {}, self.below(chain, here, at)
            case GoToFound():
                return self._go_to_found(term, here, at)
            case Deliver():
                return self._delivered(term, here, at)
            case DeliverTo(ip, port):
                self._need_dnat(at)
                there = changed(here, lambda skb: skb._replace(destination=ip, port=port or skb.port, translated=True))
                at.decided(there)
                return {}, {}, Walked(passed=there)
            case Redirect(port):
                there = changed(here, lambda skb: _redirected(skb, port))
                at.decided(there)
                return {}, {}, Walked(passed=there)
            case SourceNat():
                at.masqueraded()
                return {}, {}, Walked(passed=changed(here, lambda skb: skb._replace(masqueraded=True)))
            case Accept():
                return {}, {}, Walked(passed=here)
            case Verdict():
                return {}, {}, self._decided(term, here, at)
        return changed(here, lambda skb: self._do(term, skb, at)), {}, Walked()

    def _go_to_found(self, term: GoToFound, here: Spread, at: At) -> tuple[Spread, Spread, Walked]:
        missed: dict[Skb, Fraction] = {}
        walked = Walked()
        for skb, chance in here.items():
            found = self._look_up(term.map, _key(term.columns, term.protocol, skb, at))
            if found is None or found[0] is None:
                missed[skb] = chance
            else:
                walked = walked.plus(self.below(str(found[0][0]), {skb: chance}, at))
        return {}, missed, walked

    def _delivered(self, term: Deliver, here: Spread, at: At) -> tuple[Spread, Spread, Walked]:
        self._need_dnat(at)
        delivered, missed = Spreads(), Spreads()
        for skb, chance in here.items():
            if term.protocol is not at.walk.packet.protocol:
                missed.add({skb: chance})
                continue
            key = _key(term.columns, term.protocol, skb, at)
            for number in range(term.draw):
                found = self._look_up(term.map, (*key, number))
                if found is None or found[0] is None:
                    missed.add({skb: chance / term.draw})
                else:
                    ip, port = found[0]
                    there = skb._replace(destination=str(ip), port=int(port), translated=True)
                    delivered.add({there: chance / term.draw})
        at.decided(delivered.sum)
        return {}, missed.sum, Walked(passed=delivered.sum)

    def _decided(self, verdict: Verdict, here: Spread, at: At) -> Walked:
        match verdict:
            case Verdict.RETURN:
                return Walked(returned=here)
            case Verdict.MASQUERADE:
                _need(at.base.nat and at.base.hook == "postrouting", verdict, at)
                at.masqueraded()
                return Walked(passed=changed(here, lambda skb: skb._replace(masqueraded=True)))
            case Verdict.REJECT:
                _need(at.base.hook in ("input", "forward", "output"), verdict, at)
        at.lose(REFUSED if verdict is Verdict.REJECT else DROPPED, here)
        return Walked()

    def _need_dnat(self, at: At) -> None:
        _need(at.base.nat and at.base.hook in ("prerouting", "output"), "dnat", at)

    def _do(self, term: Term, skb: Skb, at: At) -> Skb:
        match term:
            case SetMark(bit):
                return skb._replace(mark=skb.mark | bit)
            case FlipMark(bit):
                return skb._replace(mark=skb.mark ^ bit)
            case Remember(name, numbers):
                return remember(skb, _place(name, numbers), at.walk.packet.source)
            case CountFor(name, numbers):
                # The rule would be false, and the packet not delivered.
                _need(self._look_up(name, numbers) is not None, term, at)
            case Count(counter):
                _need(self.has_counter(counter), term, at)
        return skb

    # --- terms that ask --------------------------------------------------------------------------------------------

    def _split(self, term: Term, here: Spread, at: At) -> tuple[Spread, Spread]:
        if isinstance(term, Chance | Turn):  # of many connections, wherever the turn may be now
            odds = Fraction(1, term.of)
            hits = {skb: chance * odds for skb, chance in here.items()}
            return hits, {skb: chance * (1 - odds) for skb, chance in here.items()} if odds != 1 else {}
        hits = {skb: chance for skb, chance in here.items() if self._is(term, skb, at)}
        return hits, {skb: chance for skb, chance in here.items() if skb not in hits}

    def _is(self, term: Term, skb: Skb, at: At) -> bool:  # noqa: C901 (one line for each kind of question)
        packet = at.walk.packet
        match term:
            case Member():
                return self._is_member(term, skb, at)
            case Returning(name, numbers):
                return self._remembered(name, numbers, skb, packet.source)
            case FromPrefix(cidr, inverted):
                return within(packet.source, cidr) is not inverted
            case ToPrefixes(cidrs, inverted):
                return any(within(skb.destination, cidr) for cidr in cidrs) is not inverted
            case PortIs(ranges, inverted):
                return any(first <= skb.port <= last for first, last in ranges) is not inverted
            case CameBy(name, inverted):
                return came_by(packet.in_interface, name, "*") is not inverted
            case Own(side):
                return at.walk.world.is_own(packet.source if side is Column.SOURCE else skb.destination)
            case Speaks(protocol):
                return protocol is packet.protocol
            case State():
                return term.value == packet.state.value
            case InStates(states, inverted):
                return (packet.state.value in states) is not inverted
            case Marked(bit):
                return bool(skb.mark & bit)
        _need(isinstance(term, Translated), term, at)
        return skb.translated

    def _is_member(self, term: Member, skb: Skb, at: At) -> bool:
        spec = self.spec(term.set)
        _need(spec is not None and spec.columns == term.columns and not spec.remembers, term, at)
        if term.protocol not in (None, at.walk.packet.protocol):
            return False
        return self._look_up(term.set, _key(term.columns, term.protocol, skb, at)) is not None

    def _look_up(self, name: str, key: Key) -> tuple[Data] | None:
        if self.spec(name) is None:
            raise ImpossibleRuleError(f"the kernel refuses a rule that names a set that is not there: {name}")
        return self.find(name, key)

    def _remembered(self, name: str, numbers: Numbers, skb: Skb, client: str) -> bool:
        if not any(entry.client == client for entry in skb.memory):
            return False
        place, seconds = _place(name, numbers), self.remembers_seconds(name, numbers)
        return any(
            entry.place == place and entry.client == client and entry.seconds_ago < seconds for entry in skb.memory
        )


_ACTIONS = (
    *(Jump, GoTo, GoToFound, Deliver, DeliverTo, Redirect, SourceNat, Accept, Verdict),
    *(SetMark, FlipMark, Remember, CountFor, Count),
)
"""Terms that do something; all others only ask."""


class Spreads:
    """A sum of spreads in the making."""

    def __init__(self) -> None:
        self.sum: Spread = {}

    def add(self, spread: Spread) -> None:
        """Add one."""
        if spread:
            self.sum = total(self.sum, spread) if self.sum else spread


def _key(columns: tuple[Column, ...], protocol: Protocol | None, skb: Skb, at: At) -> Key:
    packet = at.walk.packet
    if protocol not in (None, packet.protocol):
        return ()
    return tuple([_COLUMNS[column](packet, skb) for column in columns])


_COLUMNS: Mapping[Column, Callable[[Packet, Skb], str | int]] = {
    Column.SOURCE: lambda packet, _: packet.source,
    Column.DESTINATION: lambda _, skb: skb.destination,
    Column.PROTOCOL: lambda packet, _: str(packet.protocol),
    Column.PORT: lambda _, skb: skb.port,
}


def _need(fine: bool, what: object, at: At) -> None:
    if not fine:
        raise ImpossibleRuleError(f"{at.step.place.chain}: the kernel refuses {what} there")


def _redirected(skb: Skb, port: int) -> Skb:
    home = "::1" if ":" in skb.destination else "127.0.0.1"
    return skb._replace(destination=home, port=port or skb.port, translated=True)


def _place(name: str, numbers: Numbers) -> str:
    return f"{name} {numbers.service} {numbers.endpoint}"
