"""From an HTTP plan to a configuration: pure, and with the same result for the same plan.

`compiler` keeps all of it up to date. `frontends` are what listens, `certificates` what it shows; `conditions` and
`tables` send a request to its rule, `draws` to one of its backends by weight. `slots` is what happens then: endpoints
and their retries, redirects, rewritten paths and headers, with `cors` for some of those. `words` are the names in it,
none of them an object's.
"""
