"""From a plan to rules. Pure.

`node` and `service` translate a plan; `draw` spreads connections over endpoints. `lists` and `tree` are the lists that
services share, in the two layouts there are. `compiler` keeps all of it up to date; `counts` tells whose connections
the rules have counted.
"""
