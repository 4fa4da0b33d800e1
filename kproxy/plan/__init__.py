"""Every decision a service proxy takes, taken once, for all backends. Pure: values in, values out.

To learn what a Service means, read `model` (what there is to decide), `topology` (which endpoints) and `service` (all
the rest), in this order; `claims` is about addresses that several Services want, `node` about the node as a whole,
`reasons` says why an endpoint is left out. `settings` is what planning is told, and `planner` only sees to it that no
more is planned anew than has changed.
"""
