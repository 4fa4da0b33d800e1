"""What the objects are told of themselves, and the objects made for them: computed here as data, written elsewhere.

``reports`` says what the status of every object should be, ``conditions`` how that goes together with what is there,
``doors`` which Services and EndpointSlices Gateways need, ``features`` what this controller can do. All of that
is pure; ``writer`` compares first, so that nothing is written that is so already, and ``lease`` says who writes.
"""
