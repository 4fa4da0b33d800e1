"""From a plan to rules. Pure.

`node` and `service` translate a plan; `draw` spreads connections over endpoints, by chance or in turn. `lists` and
`tree` are the lists that services share, in the two layouts there are. `compiler` keeps all of it up to date, and
chooses the layout; `counts` tells whose connections the rules have counted.
"""
