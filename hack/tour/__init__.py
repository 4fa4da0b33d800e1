"""The tour: Kubernetes' network on one machine, from two namespaces to an Ingress. Start it with ``hack/tour.sh``.

Each chapter is a module with its text, its commands and what they must show; read them in this order:

1. `wires`: namespaces, veth pairs, a bridge, routes
2. `docker0`: out of the machine and into it: NAT and conntrack
3. `pod`: a pause process, and the real CNI plugins
4. `service`: kproxy on a node; how connections spread
5. `name`: from a name to an address: environment variables and DNS (`dns` is the server, `envvars` the kubelet's part)
6. `host`: from a host and a path to a pod: `kproxy ingress`

What they stand on: `world` (where a chapter's commands can do no harm), `guide` (what a step shows, and that a ✓ stands
only where something was checked), `chapters` (the list), `play` (one chapter, in its world). The machines of the later
chapters are `hack.lab`'s, what they are about is the `shop`, which `web` serves.

`page` makes "The whole way of a packet" of what chapter 6 shows: `packet` follows a request, `picture` draws its way.
"""
