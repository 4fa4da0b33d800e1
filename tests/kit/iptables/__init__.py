"""What the tests of the iptables backend share.

`text` compares what iptables-save prints, `saved` makes it something to walk a packet through, `tools` runs iptables'
own programs. `samples` is a small ruleset, `strategies` draws rules of every kind, `steps` are a sync's commits with
what the tables hold in between, `applier` are the appliers, each in a namespace of its own. `iptc_recording` has the
bytes that python-iptables makes of rules, `iptc_reference` has it make them.
"""
