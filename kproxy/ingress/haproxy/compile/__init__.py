"""From an HTTP plan to a configuration: pure, and with the same result for the same plan.

`compiler` keeps all of it up to date. `frontends` are what listens, looks host and path up in `tables`, which lead to a
rule, and tells of the client (X-Forwarded); `certificates` are what it shows. `conditions` are all else that a match
asks, `draws` choose one of a rule's backends by weight, where the plan has left out those of weight 0. `slots` is what
happens then: endpoints and their retries, redirects, rewritten paths and headers, with `cors` for some of those.
`words` are the names in it, none of them an object's.
"""
