"""How the ruleset gets into the kernel, and what is read back.

`library` writes by libnftables, and `loading` the elements of a whole table by `netlink`, which reads; `packing` is how
they are packed. `table` is what the kernel holds, `elements` its elements, `rules` its rules and those of others,
`notes` how nft will print sets, `watch` what others do to it. `reconcile` compares, and leaves alone what affinity
remembers; `applier` puts all together, `probe` tells whether a node can do this at all, `presence` whether anybody
does, `errors` what can go wrong.
"""
