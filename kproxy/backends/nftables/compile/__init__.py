"""From a plan to sets, maps and chains. Pure.

`service` and `affinity` translate one service, `shared` what all have in common; `compiler` keeps all of it up to date,
`counts` tells whose connections the elements have counted.
"""
