"""The engines that turn a Plan into kernel rules: `iptables` and `nftables`.

They share the Plan, `base` (what the loop sees of an engine), `packet` and `walk` (how a packet is followed through
rules, whoever wrote them) and `steady` (how what they count is read while they work), and nothing else.
"""
