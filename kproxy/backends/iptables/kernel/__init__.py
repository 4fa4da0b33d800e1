"""How rules get into the kernel, with as little change as can be.

`applier` is what the two ways there have in common to look at, `engine` in deed, with `edit` for what is to be done to
a table, `order` for what of it is committed first, and `errors` for what can go wrong. `variant` tells which of them a
node wants, `legacy`, which takes the xtables lock, or `nft`, which has none; `chains` whose chains are in either.
"""
