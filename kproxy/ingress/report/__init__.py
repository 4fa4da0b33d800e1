"""What the ingress program tells the world, by `reporter`: `health`, `metrics`, the log, Events.

`traffic` is what requests came to, `exporter` passes HAProxy's own exporter on, `pages` is what is served at which
path, `page` what people look at.
"""
