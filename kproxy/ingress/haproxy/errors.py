"""What can go wrong at HAProxy, each with one line that says what to do."""


class EngineError(Exception):
    """HAProxy could not be brought to the wanted state; what was in force before still is. Worth a retry."""


class NoHAProxyError(EngineError):
    """The program is not there, or too old."""


class RefusedError(EngineError):
    """HAProxy does not accept a configuration, or a command: some object's fault, as a rule."""


class UnreachableError(EngineError):
    """The runtime socket does not answer."""
