"""Lists and watches at the API server, so that a watch never goes stale.

``source`` runs a ``reflector`` for each kind of object; that one asks by ``listwatch`` and reads a ``stream``, in
``lines``, waiting by ``backoff`` after failures. ``delivery`` is what it hands over, and up to which place in history.
``suspicions`` notices what a watch does not tell, with ``history`` (did time run backwards?), ``versions`` (which is
older?) and ``relists`` (when everything is listed again, out of step with other nodes).
"""
