"""A cluster's DNS server, small enough to read: the Kubernetes DNS specification 1.1.0, whole, and nothing more.

Read on in this order: `objects` (what it looks at: Services and EndpointSlices in a folder), `cluster` (which records
the specification wants for them: the heart of it), `zone` (names that are there and names that are not), `answers`
(from a question to a response), `server` (sockets). dnspython brings messages, names and record types.

``python -m hack.tour.dns --manifests DIR`` serves. It follows changes of the folder, and asks others for other names.
"""
