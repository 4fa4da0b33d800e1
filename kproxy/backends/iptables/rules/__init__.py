"""What a rule says, how it is spelt, and how two sets of rules are compared. Pure.

* `ruleset` (a rule, a chain, a table) and `names` (what chains are called, and which are ours) are the words.
* `render` prints rules as iptables-save does; `parse` reads any program's rules, however spelt, and `ruletext` tells
  the nft variant whether two texts are the same rule. `held` is what is known of tables as the kernel holds them.
* `diff` says what must change, `walk` what becomes of a packet.
* `hooks` are the jumps from built-in chains to kproxy's, `firewall` the rules that the kubelet and kproxy share,
  `served` tells whom the rules of a former process served, `counted` names the rules whose counters are wanted.
"""
