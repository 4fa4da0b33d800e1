"""The one chain that kproxy shares with the kubelet: KUBE-FIREWALL.

Both put the same rule there, so that either finds it in place: a guard for nodes on which route_localnet lets
127.0.0.1 be reached from the network (kubernetes/kubernetes#90259). Whoever comes second adds nothing; whoever goes
may take it away only if the other is not there.
"""

from kproxy.backends.iptables.rules.names import KUBE_FIREWALL
from kproxy.backends.iptables.rules.ruleset import Comment, ConnectionState, Drop, Hook, Jump, Prefix, Rule, State

LOCALNET_GUARD = Rule(
    source=Prefix("127.0.0.0/8", inverted=True),
    destination=Prefix("127.0.0.0/8"),
    matches=(
        Comment("block incoming localnet connections"),
        State(ConnectionState.RELATED | ConnectionState.ESTABLISHED | ConnectionState.DNAT, inverted=True),
    ),
    target=Drop(),
)

GUARD_HOOKS = tuple(Hook(builtin, Rule(target=Jump(KUBE_FIREWALL))) for builtin in ("INPUT", "OUTPUT"))
"""The ways to the guard."""

KUBELET_CHAINS = frozenset({"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"})
"""Chains in mangle that only a kubelet makes: they tell that there is one, and which variant of iptables it uses."""

KUBE_PROXY_CHAIN = "KUBE-PROXY-CANARY"
"""Only kube-proxy makes it, and kproxy removes it wherever it takes over: where it is, kube-proxy was at work last."""
