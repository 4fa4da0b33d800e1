"""Every decision about an HTTP request, taken once, whichever API said it. Pure: values in, values out.

Begin with `model`, which says what there is to decide (`matching`: how a request is recognised, `action`: what is done
with it), and `walk`, which says what becomes of one request by it.

Objects are gathered in a `world`; `ingress` and `gateway` read them into doors and entries, by the checks of `grammar`
and `regex`; `services` and `certificates` follow their references; `precedence` says what comes first; `assemble` puts
the plan together. `planner` sees to it that no more is planned anew than may have changed, by `settings`.
"""
