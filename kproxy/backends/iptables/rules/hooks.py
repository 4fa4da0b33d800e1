"""The jumps from the built-in chains to kproxy's, as kube-proxy has them: all that is written outside of its own."""

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.firewall import GUARD_HOOKS
from kproxy.backends.iptables.rules.ruleset import Comment, ConnectionState, Hook, Jump, Match, Rule, State, TableName

_NEW = State(ConnectionState.NEW)


def _hook(builtin: str, chain: str, comment: str, *matches: Match) -> Hook:
    # Hooks keep their comments in every layout: they are few, and the first thing anybody looks at.
    comments = (Comment(comment),) if comment else ()
    return Hook(builtin, Rule(target=Jump(chain), matches=(*matches, *comments)))


FILTER_HOOKS = (
    GUARD_HOOKS[0],
    _hook("INPUT", names.PROXY_FIREWALL, "kubernetes load balancer firewall", _NEW),
    _hook("INPUT", names.NODE_PORTS, "kubernetes health check service ports"),
    _hook("INPUT", names.EXTERNAL_SERVICES, "kubernetes externally-visible service portals", _NEW),
    _hook("FORWARD", names.PROXY_FIREWALL, "kubernetes load balancer firewall", _NEW),
    _hook("FORWARD", names.FORWARD, "kubernetes forwarding rules"),
    _hook("FORWARD", names.SERVICES, "kubernetes service portals", _NEW),
    _hook("FORWARD", names.EXTERNAL_SERVICES, "kubernetes externally-visible service portals", _NEW),
    GUARD_HOOKS[1],
    _hook("OUTPUT", names.PROXY_FIREWALL, "kubernetes load balancer firewall", _NEW),
    _hook("OUTPUT", names.SERVICES, "kubernetes service portals", _NEW),
)
NAT_HOOKS = (
    _hook("PREROUTING", names.SERVICES, "kubernetes service portals"),
    _hook("OUTPUT", names.SERVICES, "kubernetes service portals"),
    _hook("POSTROUTING", names.POSTROUTING, "kubernetes postrouting rules"),
)
HOOKS = {TableName.FILTER: FILTER_HOOKS, TableName.NAT: NAT_HOOKS}
