"""The page at ``/`` of the ingress program's metrics server: routes, where they lead, and what goes through them.

`files` are what a browser loads (where app.js makes rates of totals, and base.js text of whatever others wrote),
`board` is what the page shows, as data, and `answers` is the JSON endpoint over it. All of it works only while somebody
looks: nothing here has a thread or a timer, and what several look at is made once.
"""

from kproxy.ingress.report.page.answers import Answers as Answers
from kproxy.ingress.report.page.answers import Sources as Sources
from kproxy.ingress.report.page.files import page_routes as page_routes
