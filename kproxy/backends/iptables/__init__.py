"""The iptables backend: Plan → RuleSet → kernel.

Pure, and enough to understand the rules; read on in this order:

* `ruleset` (what a rule says) and `names` (what chains are called) are the words.
* `node` and `service` translate a plan; `draw` spreads connections over endpoints. `lists` and `tree` are the lists
  that services share, in the two layouts there are. `compile` keeps all of it up to date.
* `render` prints it as iptables-save does. `diff` says what must change.

Into the kernel, with as little change as can be:

* `applier` is what the two ways there have in common to look at, `engine` in deed, with `edit` for what is to be done
  to a table. `variant` tells which of them a node wants.
* `legacy` writes through libiptc (`libiptc`, which alone imports iptc, and `lock`), in the kernel's own bytes: `entry`,
  `terms` and `encode` make them, `tableinfo` and `image` read them.
* `nft_variant` writes through iptables-nft-restore, and reads text (`ruletext`); `nft_watch` sees what others do.

And back: `counts` tells whose connections the rules have counted, `served` whom the rules of a former process served.
`backend` is what the proxier sees of all that.
"""
