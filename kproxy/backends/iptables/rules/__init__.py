"""What a rule says, how it is spelt, and how two sets of rules are compared. Pure.

* `ruleset` (a rule, a chain, a table) and `names` (what chains are called) are the words.
* `render` prints rules as iptables-save does; `ruletext` reads what it prints.
* `diff` says what must change, `walk` what becomes of a packet.
* `firewall` holds the rules that the kubelet and kproxy share, `served` whom the rules of a former process served.
"""
