"""Releases what conntrack still sends to the wrong place: flows of UDP, and connections that nobody has answered.

NAT rules are asked once per flow, for its first packet; conntrack repeats the answer for all that follow. UDP has no
end: as long as a client goes on sending from the same port (a resolver, a statsd client, QUIC), its flow lives, and
with it whatever was decided at its start: an endpoint that is long gone, or no endpoint at all because there was none
then (kubernetes/kubernetes#48370, #125467, #139628, #141371). TCP and SCTP have ends of their own, and a connection to
a terminating pod must not be cut; but the first packet of one that nobody answers is sent again and again, and
conntrack sends each where the first one went: to the ClusterIP itself, if the Service came a moment later. Whoever
tries anew from the same port within two minutes meets the same. A flow that is released, that is, deleted from
conntrack, starts anew with its next packet, by the rules of now.

What is released follows from comparing flows with the plan, not from remembering events, so that it comes out the same
after a restart. Pure: `flows` (what a flow is), `expected` (which ones the plan allows), `looks` (what to ask the
kernel for), `message` and `requests` (its bytes), `budget` (how often). With effects: `kernel` (netlink), `reconciler`
(when to look, and at what), `keeper` (in a thread of its own).

Connections that have been answered are never touched, in which kproxy is as kube-proxy, which knows UDP alone.
"""
