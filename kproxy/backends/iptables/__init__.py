"""The iptables backend: Plan → RuleSet → kernel.

Three rooms, read in this order: `rules` (what a rule says, how it is spelt and compared) and `compile` (from plan to
rules) are pure, and enough to understand the rules; `kernel` brings them there, by one of two variants. `backend` is
what the proxier sees of all that.
"""
