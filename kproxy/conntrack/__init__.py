"""Releases UDP flows that conntrack still sends to the wrong place.

NAT rules are asked once per flow, for its first packet; conntrack repeats the answer for all that follow. A TCP
connection to a pod that is gone ends some day. UDP has no end: as long as a client goes on sending from the same port
(a resolver, a statsd client, QUIC), its flow lives, and with it whatever was decided at its start: an endpoint that is
long gone, or no endpoint at all because there was none then (kubernetes/kubernetes#48370, #125467, #139628, #141371).
A flow that is released, that is, deleted from conntrack, starts anew with its next packet, by the rules of now.

What is released follows from comparing flows with the plan, not from remembering events, so that it comes out the same
after a restart. Pure: `flows` (what a flow is), `expected` (which ones the plan allows), `message` (the kernel's
bytes). With effects: `kernel` (netlink), `reconciler` (when to look, and at what).

UDP only, as in kube-proxy. TCP and SCTP have ends of their own, and a connection to a terminating pod must not be cut.
"""
