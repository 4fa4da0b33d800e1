"""The legacy variant: through libiptc, in the kernel's own bytes.

`libiptc` alone imports iptc; `lock` is the lock that all programs of iptables share. `entry`, `terms` and `encode` make
the bytes of rules, `tableinfo` and `image` read them, `applier` does it all.
"""
