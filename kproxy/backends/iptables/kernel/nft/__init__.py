"""The nft variant: through iptables-nft-restore, in text. `applier` writes, `watch` sees what others do."""
