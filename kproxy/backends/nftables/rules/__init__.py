"""The words of the nftables backend, and how they are spelt and compared. Pure.

`ruleset` (chains, sets, elements) and `names` are the words, `ways` is the layout: begin there. `render` prints them as
nft reads them, `change` is what differs between two rulesets, `prefixes` merges address ranges.

`walk` says what becomes of a packet, by what each term does in `machine`. `decompile` reads the kernel's expressions
back, with `registers` (symbols for what a rule loads) and `comparisons` (what it asks).
"""
