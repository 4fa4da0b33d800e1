"""From an HTTP plan to a configuration: pure, and with the same result for the same plan.

`compiler` keeps all of it up to date. `frontends` are what listens, and what is told of the client (X-Forwarded),
`certificates` what it shows; `tables` send a request to its rule by host and path, `conditions` by all else, `draws` to
one of its backends by weight. `slots` is what happens then: endpoints and their retries, redirects, rewritten paths and
headers, with `cors` for some of those. `words` are the names in it, none of them an object's.
"""
