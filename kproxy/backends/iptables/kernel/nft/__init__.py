"""The nft variant: through iptables-nft-restore, in text.

`applier` writes, `watch` sees what others do, `held` reads what there is for a packet to walk through. `names` and
`sweep` are for tables that iptables itself cannot read.
"""
