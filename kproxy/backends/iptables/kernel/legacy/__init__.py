"""The legacy variant: through libiptc, in the kernel's own bytes.

`libiptc` alone imports iptc, and `drop` gives back what that has no use for any more; `lock` is the lock that all
programs of iptables share. `entry`, `terms` and `encode` make the bytes of rules, `tableinfo` and `image` read them,
`decode` makes rules of them again. `turns` says where turns begin, `served` whom rules served, `counted` where counters
stand, `held` what there is for a packet to walk through. `applier` does it all.
"""
