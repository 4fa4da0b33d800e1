"""What the objects are told of themselves, and the objects made for them: computed here as data, written elsewhere.

``reports`` says what the status of every object should be, ``conditions`` how that goes together with what is there,
``doors`` which Services and EndpointSlices Gateways need. All of it is pure; whoever writes compares first, so that
nothing is written that is so already.
"""
