"""The page at ``/`` of the metrics server: what kproxy does here, to look at.

`files` are what a browser loads (where app.js makes rates of totals, and base.js text of whatever others wrote),
`board` is the list of Services and keeps account of what changed in it, `picture` is one Service in detail, `answers`
is the JSON endpoint over them. All of it works only while somebody looks: nothing here has a thread or a timer, and
what several look at is made once.
"""
