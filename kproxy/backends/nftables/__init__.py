"""The nftables backend: a table of maps and sets, changed by the element.

kube-proxy's nftables mode has a chain for every service and for every endpoint, as its iptables mode has. Here there is
none for either (see `ways` for the layout): a service is an element of a few sets, an endpoint an element of a map. Any
change of one service is a handful of elements in one transaction, and costs the same among ten services or 30,000.

Three rooms, as in the iptables backend: `rules` (the words and the layout: begin with its `ways`), `compile` (from a
plan to sets, maps and chains) and `kernel` (how they get there). `counting` reads what has been counted, beside the
loop; `backend` is what the proxier sees of all that.
"""
