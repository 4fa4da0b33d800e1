"""The demo: a small shop on two nodes, and kproxy under its Services. Start it with ``hack/demo.sh``.

``python -m hack.demo`` is the story, `shop` what it is about, `rules` finds those of one Service, `screen` prints.
"""
