"""The engines that turn a Plan into kernel rules: `iptables` and `nftables`.

They share the Plan, `base` (what the loop sees of an engine), `packet` and `walk` (how a packet is followed through
rules, whoever wrote them), `steady` (how what they count is read while they work) and `culprits` (how the services that
the kernel refuses are left out), and nothing else.
"""
