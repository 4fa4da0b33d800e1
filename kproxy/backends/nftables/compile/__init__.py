"""From a plan to sets, maps and chains. Pure.

`service` translates one service, `own` the chains of those that have affinity or take turns, `shared` what all have in
common; `compiler` keeps all of it up to date, `counts` tells whose connections the elements have counted.
"""
