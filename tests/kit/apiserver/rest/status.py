"""A real API server's way to say no: metav1.Status, with the code, reason and Retry-After that clients act upon.

Source: the recordings in tests/wire, and k8s.io/apimachinery's list of reasons.
"""

from typing import Any

from tests.kit.apiserver.kinds import Json, Kind

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}

MESSAGES = {
    401: "Unauthorized",
    404: "the server could not find the requested resource",
    410: "The provided continue parameter is too old to display a consistent list result.",
    429: "too many requests, please try again later",
}


def status_body(
    code: int,
    message: str | None = None,
    *,
    reason: str | None = None,
    details: Json | None = None,
    metadata: Json | None = None,
) -> Json:
    """Return a failure Status, its fields in a real server's order; reason and message default to the code's own."""
    body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": metadata or {}, "status": "Failure"}
    reason = REASONS.get(code, "Unknown") if reason is None else reason
    body["message"] = message or MESSAGES.get(code, reason)
    body["reason"] = reason
    if details is not None:
        body["details"] = details
    body["code"] = code
    return body


class ApiError(Exception):
    """An answer other than success; raised anywhere below the request handler, which writes it out."""

    def __init__(
        self, code: int, message: str | None = None, *, retry_after: float | None = None, **status: Any
    ) -> None:
        super().__init__(message or MESSAGES.get(code) or REASONS.get(code, str(code)))
        self.code = code
        self.retry_after = retry_after
        self.body = status_body(code, message, **status)


def not_found(kind: Kind, name: str) -> ApiError:
    """No object of that name."""
    details = (
        {"name": name, "group": kind.group, "kind": kind.plural}
        if kind.group
        else {
            "name": name,
            "kind": kind.plural,
        }
    )
    return ApiError(404, f'{_resource(kind)} "{name}" not found', details=details)


def conflict(kind: Kind, name: str, why: str, *, reason: str = "Conflict") -> ApiError:
    """The object is there already, or was changed by somebody else in between."""
    return ApiError(
        409, f'{_resource(kind)} "{name}" {why}', reason=reason, details={"name": name, "kind": kind.plural}
    )


def too_large(wanted: int, current: int) -> ApiError:
    """The client has seen a version that this server has not reached; it shall come back in a second."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(
        504,
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        retry_after=1,
        details={"causes": [cause], "retryAfterSeconds": 1},
    )


def invalid_options(field: str, why: str) -> ApiError:
    """A combination of list options that the server refuses."""
    return ApiError(
        422,
        f'ListOptions.meta.k8s.io "" is invalid: {field}: Forbidden: {why}',
        details={
            "group": "meta.k8s.io",
            "kind": "ListOptions",
            "causes": [{"reason": "FieldValueForbidden", "message": f"Forbidden: {why}", "field": field}],
        },
    )


def _resource(kind: Kind) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural
