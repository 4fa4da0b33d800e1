"""GatewayClasses, Gateways and HTTPRoutes → doors, entries and rules, and a verdict on each of those objects.

Begin with `reader`, which goes through them once: `listeners` judges what Gateways want, `routes` attaches HTTPRoutes
to them, `rules`, `filters` and `cors` read what a route does; `hosts`, `ports`, `places`, `selectors` and `grants` are
the questions they ask on the way. `verdicts` is what is said of the objects; their status is made of it.

Sources: the API reference, the GEPs and the conformance tests of Gateway API v1.4.
"""
