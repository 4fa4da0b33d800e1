"""The iptables backend: Plan → RuleSet → kernel.

``names`` and ``ruleset`` are its nouns; ``compile`` translates a plan; ``render`` prints iptables-save text; ``diff``
says what must change; ``encode`` makes the kernel's bytes; ``applier`` alone touches the kernel.
"""
