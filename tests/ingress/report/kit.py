"""What the page of the ingress program is shown, by HTTP and in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager

from kproxy.config import BindAddress
from kproxy.ingress.explain import model as explained
from kproxy.ingress.explain.model import Answer, Choice, Endpoint
from kproxy.ingress.explain.reply import Reply, replier
from kproxy.ingress.haproxy.engine import Totals
from kproxy.ingress.plan.model import Plan
from kproxy.ingress.report.metrics import Scraped
from kproxy.ingress.report.page import Answers, Sources, page_routes
from kproxy.ingress.report.page.answers import Overview
from kproxy.ingress.report.page.board import Row, Target, Total
from kproxy.ingress.report.traffic import Clients, Way, nothing
from kproxy.report.health import Verdict
from kproxy.report.http import HttpServers
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, planned, service

EVIL = "<img src=x onerror=document.title='owned'>\"'\u202egpj"
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /gone, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}
"""


class World:
    """What the page is shown."""

    def __init__(self) -> None:
        header = [{"name": "X-Evil", "value": EVIL.encode("ascii", "ignore").decode()}]
        listeners = ({"name": "http"}, {"name": "more", "port": 8080})
        redirect = {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]}
        away = redirect | {"matches": [{"path": {"value": "/old"}}]}
        some = to("web", "gone") | {"matches": [{"path": {"value": "/some"}, "headers": header}]}
        self.plan: Plan | None = planned(
            CLASSES, gateway(*listeners), route(away, some, hostnames=["gw.example.com"]), INGRESS, service("web")
        ).plan
        self.asked = 0
        self.requests = 0
        self.ready = True
        self.now = 100.0
        self.answers = Answers(clock=lambda: self.now)

    def open(self) -> None:
        self.answers.open(
            Sources(
                plan=lambda: self.plan,
                problems=lambda: (f"Ingress default/bad: {EVIL}",),
                scrape=self.scrape,
                health=lambda: Verdict(200, {"healthy": True}),
                ready=lambda: (
                    Verdict(200, {}) if self.ready else Verdict(503, {"reasons": ["HAProxy does not answer"]})
                ),
                explain=replier(lambda: self.plan),
            )
        )

    def scrape(self) -> Scraped:
        self.asked += 1
        self.requests += 50
        reading = nothing()._replace(codes=(0, self.requests, 0, 0, 2), errors=(1, 2, 9, 9))
        ways = {Way("Ingress/default/shop/0", "default/web:80"): reading}
        return Scraped(ways, [Clients("f80", 3)], serving=True, totals=Totals(reloads=4), writes=True, failed_writes=0)


def how_it_goes(text: str) -> Overview:
    """What the page is told, each text of which is a stranger's."""
    targets = (Target(service="", share=0.5), Target(service=text, share=0.5, ready=1))
    row = Row(host=text, match=text, rule=text, ports=(text,), owners=(text,), state="partly", targets=targets)
    return Overview(
        boot="a",
        counted=1.0,
        interval=2.0,
        version=text,
        ready=False,
        healthy=True,
        reasons=(text,),
        facts=(("routes", text),),
        problems=(text,),
        routes=(row,),
        more=0,
        totals=(Total(rule=text, backend=text, codes=(0, 1, 0, 0, 0), errors=1),),
    )


def reply(text: str) -> Reply:
    """An answer to a question, alike."""
    ends = (Endpoint(address=text, share=1.0),)
    way = explained.Way(
        binds=(text,),
        protocol=text,
        verdict=explained.Verdict.REDIRECT,
        owners=(text,),
        host=text,
        match=text,
        kind=text,
        object=text,
        rule=1,
        location=text,
        changes=(text,),
        choices=(Choice(service=text, share=1.0, changes=(text,), endpoints=ends),),
    )
    return Reply(Answer(url=text, method=text, ways=(way,), notes=(text,)))


@contextmanager
def served(world: World) -> Iterator[str]:
    """Serve the page; yield its address."""
    servers = HttpServers()
    servers.start()
    try:
        protocol = servers.protocol(lambda request: page_routes(world.answers)[request.path](request), inline=False)
        listener = servers.call(servers.listen(protocol, BindAddress("127.0.0.1", 0)))
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    finally:
        servers.stop()
