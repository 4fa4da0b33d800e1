"""``kproxy run`` put together: the composition root.

`run` wires up what the rules take, in the order in which it is needed; `company` are those who join the loop when rules
are in force, and `early` is what they find then. `later` imports them, and whatever many daemons never need, no sooner.

`engines` chooses which backend writes the rules, and for which address families, and clears away what another has left,
when `company` says so; `signals` turns signals into calls, and sees to it that the end comes soon. `door` is the socket
that people ask by, `inspect` answers what ``kproxy status``, ``explain`` and ``diff`` ask, `rates` has connections a
second for it. `kernelsettings` makes settings of the kernel and puts them back with their mode, `nodeview` puts
together what is known of the node, to be judged. `pagesources` are whom the page at / asks. `files` are kproxy's own,
of which nothing is loaded any more once others have taken their place.
"""
