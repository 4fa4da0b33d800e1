"""The page "The whole way of a packet" is what the tour shows, and its picture is drawn from the packets seen."""

import xml.etree.ElementTree as ET

import pytest

from hack.tour import packet, page, picture
from hack.tour.guide import Ran, Told

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.kernel
def test_page_and_picture_are_what_is_seen_today() -> None:
    """If not: python -m hack.tour.page, and look at the difference."""
    told = page.record()
    assert page.PAGE.read_text() == page.markdown(told)
    assert page.PICTURE.read_text() == picture.svg(page.packets(told))


TOLD = [
    Told("One", "Why it is so.", [Ran("a \\\n    b", "x\ny", 0), Ran("c", "", 0), "✓ it is so", Ran("", "z", 0)]),
]


def test_a_step_becomes_a_section() -> None:
    assert page.markdown(TOLD).endswith(
        """\
## 1. One

Why it is so.

```console
# a \\
      b
x
y
# c
```

* ✓ it is so

```console
z
```
"""
    )


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ("IP 10.244.0.80.56174 > 10.244.1.43.8080: tcp 0", "IP 10.244.0.80.PORT > 10.244.1.43.8080: tcp 0"),
        ("IP 192.0.2.7.40001 > 203.0.113.90.80: tcp 0", "IP 192.0.2.7.40001 > 203.0.113.90.80: tcp 0"),
        ("tcp      6 118 TIME_WAIT src=192.0.2.7", "tcp      6 N TIME_WAIT src=192.0.2.7"),
        ("10.0.0.1:30080", "10.0.0.1:30080"),
    ],
)
def test_what_is_another_each_time_is_left_out(seen: str, kept: str) -> None:
    assert packet.stable(seen) == kept


PACKETS = [
    picture.Packet("client", "a.1", "b.80"),
    picture.Packet("node-a", "a.1", "b.80"),
    picture.Packet("pod-ingress", "a.1", "<c>.80"),
    picture.Packet("pod-ingress", "<c>.80", "a.1"),
    picture.Packet("node-a", "b.80", "a.1"),
]


def test_an_arrow_for_each_way_with_what_changed_on_it() -> None:
    drawn = ET.fromstring(picture.svg(PACKETS))  # noqa: S314
    labels = [[(span.text, span.get("class")) for span in text] for text in drawn.iter(f"{SVG}text") if len(text)]
    assert labels == [
        [("a.1", "address"), ("b.80", "address")],
        [("a.1", "address"), ("<c>.80", "changed")],
        [("<c>.80", "address"), ("a.1", "address")],
    ]
    assert len([line for line in drawn.iter(f"{SVG}line") if line.get("class") == "arrow"]) == 3
