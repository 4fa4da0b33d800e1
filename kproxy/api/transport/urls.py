"""Reading the URLs of servers and proxies as Go does: net/url, as far as scheme, login, host, port and path go.

Go takes hosts as they are written and keeps their case; what it calls invalid is invalid here. Pure.
"""

import re
from urllib.parse import unquote

import msgspec

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<login>[^/?#]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[^\]\s]*)?\]|[^/?#@:\[\]\s<>\"\\^`{}|]+)"
    r"(?::(?P<port>[0-9]*))?"
    r"(?P<path>/[^?#\s]*)?(?:[?#]\S*)?"
)
_LOGIN = re.compile(r"//[^/?#]*@")
_HIGHEST_PORT = 65535


class Login(msgspec.Struct, frozen=True):
    """User and password, as sent."""

    user: str
    password: str = ""

    def __repr__(self) -> str:
        """Leave out the password."""
        return f"Login(user={self.user!r})"


class Url(msgspec.Struct, frozen=True):
    """An absolute URL; the scheme is in small letters, the host without brackets, ``port`` None where none is named."""

    scheme: str
    host: str
    port: int | None = None
    path: str = ""
    login: Login | None = None

    def __str__(self) -> str:
        """Return it without its login."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{bracketed(self.host)}{port}{self.path}"


def parse_url(text: str) -> Url | None:
    """Read an absolute URL with a host; None for everything else."""
    match = _URL.fullmatch(text)
    if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
        return None
    login = None
    if match["login"] is not None:
        user, _, password = match["login"].partition(":")
        login = Login(unquote(user), unquote(password))
    port = int(match["port"]) if match["port"] else None
    return Url(match["scheme"].lower(), match["host"].strip("[]"), port, match["path"] or "", login)


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def without_login(text: str) -> str:
    """Return a URL, or what should have been one, fit to be shown."""
    return _LOGIN.sub("//…@", text)
