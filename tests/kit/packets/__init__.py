"""A cluster in the lab with kproxy at work: objects go in at an API server, packets come out at the pods.

`world` is what the packet tests stand on, by the `fixtures`. `crowd` are clients that never stop asking, `conntrack`
clients that keep their ports; `tablewatch` looks at the rules meanwhile.
"""

from tests.kit.packets.world import (
    FAMILIES,
    PATIENCE,
    PORT,
    PROTOCOLS,
    SILENCE,
    TARGET_PORT,
    Behind,
    Exposed,
    World,
    address,
    assert_all,
    assert_even,
    assert_refused,
    behind,
    bridge,
    carried,
    clean_up,
    clients,
    cluster_ips,
    each_family,
    each_protocol,
    external_ips,
    nodes,
    of,
    patience_for,
    service,
    slices,
)

__all__ = [
    "FAMILIES", "PATIENCE", "PORT", "PROTOCOLS", "SILENCE", "TARGET_PORT", "Behind", "Exposed", "World", "address",
    "assert_all", "assert_even", "assert_refused", "behind", "bridge", "carried", "clean_up", "clients", "cluster_ips",
    "each_family", "each_protocol", "external_ips", "nodes", "of", "patience_for", "service", "slices",
]  # fmt: skip
