"""The rules that this node's kernel holds, of all programs, for a packet to be walked through.

`node` puts together what there is on a node; `iptables` and `nftables` are its two kinds of parts, each of which also
says what kproxy itself wants of the chains on a packet's way; `part` is what the two have in common. `read` reads all
of it, `flows` what conntrack holds. `diff` compares it with what is wanted; `changes` is the document that tells.
"""
