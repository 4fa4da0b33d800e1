"""How destinations are written, and what is said of those that make no sense."""

import pytest

from kproxy.explain.question import Destination, QuestionError, ToAddress, ToNodePort, ToService, ask, read_destination
from kproxy.state.model import IPFamily


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("10.96.0.80:80", ToAddress("10.96.0.80", 80)),
        ("[fd00::5]:80", ToAddress("fd00::5", 80)),
        ("[FD00:0::5]:80", ToAddress("fd00::5", 80)),
        (":30080", ToNodePort(30080)),
        ("shop/web", ToService("shop", "web")),
        ("shop/web:http", ToService("shop", "web", "http")),
        ("shop/web:80", ToService("shop", "web", "80")),
        ("web.shop.svc", ToService("shop", "web")),
        ("web.shop.svc:80", ToService("shop", "web", "80")),
        ("web.shop.svc.cluster.local:http", ToService("shop", "web", "http")),
        ("web.shop.svc.cluster.local.", ToService("shop", "web")),
        ("web.shop.svc.k8s.example.org:80", ToService("shop", "web", "80")),
        ("WEB.Shop.SVC", ToService("shop", "web")),
    ],
)
def test_destinations(text: str, destination: Destination) -> None:
    assert read_destination(text) == destination


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no destination: write IP:PORT"),
        ("10.96.0.80", "a port is missing, as in 10.96.0.80:80"),
        ("fd00::5", "a port is missing, as in [fd00::5]:80"),
        ("10.96.0.80:0", "is no port"),
        ("10.96.0.80:http", "is no port"),
        (":70000", "is no port"),
        ("shop/web:", "a port's name or number belongs after the colon"),
        ("Shop/Web", "'Shop' is no name that Kubernetes takes: lower-case letters, digits and dashes"),
        ("web.shop:80", "did you mean shop/web:80?"),
        ("web", "did you mean NAMESPACE/web?"),
        ("shop/web/http", "no destination"),
        ("0.0.0.0:80", "no destination"),
        ("\x1b[31m:80", "no destination"),
    ],
)
def test_what_makes_no_sense(text: str, said: str) -> None:
    with pytest.raises(QuestionError) as caught:
        read_destination(text)
    line = str(caught.value)
    assert said in line
    assert line.isprintable()


def test_senders_and_protocols() -> None:
    assert ask("[fd00::5]:80").family is IPFamily.IPV6
    assert ask("shop/web", sender="fd00::7").family is IPFamily.IPV6
    assert ask("shop/web", protocol="UDP").protocol == "udp"
    for bad in ({"sender": "somebody"}, {"protocol": "icmp"}, {"sender": "10.0.0.7", "family": "ipv6"}):
        with pytest.raises(QuestionError):
            ask("shop/web", **bad)
    with pytest.raises(QuestionError, match="not of the family"):
        ask("10.96.0.80:80", sender="fd00::7")
