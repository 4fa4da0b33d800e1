"""From an HTTP plan to a configuration: pure, and with the same result for the same plan.

`compiler` keeps all of it up to date. `frontends` are what listens, `certificates` what it shows; `conditions` and
`tables` send a request to its rule, `draws` to one of its backends by weight, `slots` hold the endpoints, with `cors`
among what they do; `words` are the names in it, none of them an object's.
"""
