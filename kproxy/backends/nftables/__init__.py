"""The nftables backend: a table of maps and sets, changed by the element.

kube-proxy's nftables mode has a chain for every service and for every endpoint, as its iptables mode has. Here there is
none for either (see `ways` for the layout): a service is an element of a few sets, an endpoint an element of a map. Any
change of one service is a handful of elements in one transaction, and costs the same among ten services or 30,000.

Read on in this order: `ruleset` (the words), `ways` and `shared` (the layout), `service` and `affinity` (one service),
`compile` (all of them, kept up to date), `render` (as text), `library`, `netlink`, `kernel` and `watch` (the kernel),
`applier` and `backend` (all of it put together).
"""
