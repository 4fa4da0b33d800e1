"""The rules that this node's kernel holds, of all programs, for a packet to be walked through.

`node` puts together what there is on a node; `iptables` and `nftables` are its two kinds of parts, each of which also
says what kproxy itself wants of the chains on a packet's way.
"""
