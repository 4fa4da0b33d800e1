"""Reading a kubeconfig: the cluster and the user that its current context names, as client-go understands them.

Source: client-go's tools/clientcmd (client_config.go, validation.go, loader.go). What is wrong with the file is one
line that names the field and the remedy. Files that it refers to are read here as well; a relative path begins at the
kubeconfig's own folder.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from kproxy.api.transport.access import AccessError
from kproxy.api.yamlreader import UnreadableError, read_documents
from kproxy.wording import printable, quote

_WANTED = {"str": "text: put it into quotes", "bool": "true or false", "array": "a list", "object": "an object"}
"""What a field should be, by the name of its type."""
S = TypeVar("S", bound=msgspec.Struct)


class Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    """Where a server is, and how to know it."""

    server: str | None = None
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    proxy_url: str | None = None
    disable_compression: bool | None = None
    extensions: list[Any] | None = None


class EnvVar(msgspec.Struct, frozen=True):
    """A variable for an exec plugin."""

    name: str
    value: str | None = None


class Exec(msgspec.Struct, frozen=True, rename="camel"):
    """A program that gives credentials."""

    command: str | None = None
    args: list[str] | None = None
    env: list[EnvVar] | None = None
    api_version: str | None = None
    install_hint: str | None = None
    provide_cluster_info: bool | None = None
    interactive_mode: str | None = None


class User(msgspec.Struct, frozen=True, rename="kebab"):
    """As whom to speak."""

    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    as_: str | None = msgspec.field(name="as", default=None)
    as_uid: str | None = None
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None
    username: str | None = None
    password: str | None = None
    auth_provider: Mapping[str, Any] | None = None
    exec: Exec | None = None


class EmptyKubeconfigError(AccessError):
    """It names no server: no context is selected, or the context names no cluster. client-go then looks elsewhere."""


class Kubeconfig(NamedTuple):
    """What was selected."""

    path: Path
    cluster: Cluster
    user: User

    @property
    def whose(self) -> str:
        """Whose credentials these are, for messages."""
        return f"kubeconfig {self.path}"

    def file(self, reference: str) -> Path:
        """Return the path of a file that is referred to."""
        return self.path.absolute().parent / reference

    def error(self, text: str) -> AccessError:
        """Return what to raise about it."""
        return AccessError(f"{self.whose}: {text}")

    def pem(self, field: str, data: str | None, reference: str | None) -> bytes | None:
        """Return what a field holds inline, as base64 ``data``, or in a file. Raises `AccessError`, also for both."""
        if data and reference:
            raise self.error(f"{field}-data and {field} are both given: remove one")
        if data:
            try:
                return base64.b64decode("".join(data.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.error(f"{field}-data is not base64") from error
        return self.content(field, reference) if reference else None

    def content(self, field: str, reference: str) -> bytes:
        """Read a file. Raises `AccessError`."""
        try:
            return self.file(reference).read_bytes()
        except OSError as error:
            raise self.error(f"{field}: {printable(reference)} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise self.error(f"{field}: {printable(reference)} is not the name of a file") from error


def read_kubeconfig(path: Path, *, server_known: bool = False) -> Kubeconfig:
    """Read what the current context selects.

    With ``server_known``, for --master, a kubeconfig may leave out what would say where the server is. Raises
    `AccessError`, and `EmptyKubeconfigError` where nothing at all is said of a server.
    """
    document = _load(path)
    context_name = document.get("current-context")
    if not context_name:
        if server_known:
            return Kubeconfig(path, Cluster(), User())
        raise EmptyKubeconfigError(f"kubeconfig {path} selects no context: set current-context")
    context = _named(document, "contexts", context_name, path)
    if context is None:
        raise AccessError(f"kubeconfig {path}: there is no {_shown(context_name)} among its contexts")
    cluster_name, user_name = context.get("cluster"), context.get("user")
    cluster = _named(document, "clusters", cluster_name, path)
    if cluster is None and not server_known:
        raise EmptyKubeconfigError(f"kubeconfig {path}: there is no {_shown(cluster_name)} among its clusters")
    user = _named(document, "users", user_name, path) if user_name else {}
    if user is None:
        raise AccessError(f"kubeconfig {path}: there is no {_shown(user_name)} among its users")
    found = Kubeconfig(
        path,
        _typed(Cluster, cluster or {}, f"kubeconfig {path}: cluster {_shown(cluster_name)}"),
        _typed(User, user, f"kubeconfig {path}: user {_shown(user_name)}"),
    )
    if not (server_known or found.cluster.server):
        raise found.error(f"the cluster {_shown(cluster_name)} names no server: set server, or use --master URL")
    return found


def _load(path: Path) -> Mapping[str, Any]:
    """Return the first document of the file, or nothing at all where it is no object."""
    try:
        document = next((content for _, content in read_documents(path.read_bytes())), None)
    except OSError as error:
        raise AccessError(f"kubeconfig {path} cannot be read: {error.strerror}; check --kubeconfig") from error
    except UnreadableError as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise AccessError(f"kubeconfig {place}: {error.reason}") from error
    if not isinstance(document, Mapping):
        return {}
    kind = document.get("kind") or "Config"
    if kind != "Config":
        raise AccessError(f"kubeconfig {path} is a {printable(str(kind))}, not a kubeconfig: check --kubeconfig")
    return document


def _named(document: Mapping[str, Any], section: str, name: object, path: Path) -> Mapping[str, Any] | None:
    """Return what stands under a name in one of the lists; None if there is no such name."""
    entries = document.get(section)
    found = [
        entry for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, Mapping)
        and entry.get("name") == name
    ]  # fmt: skip
    if len(found) > 1:
        raise AccessError(f"kubeconfig {path}: {_shown(name)} stands twice among its {section}: remove one")
    if not found:
        return None
    content = found[0].get(section.removesuffix("s"))
    return content if isinstance(content, Mapping) else {}


def _typed(kind: type[S], content: Mapping[str, Any], place: str) -> S:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".") or "what stands there"
        wanted = next((words for name, words in _WANTED.items() if f"`{name}" in problem), "of its kind")
        raise AccessError(f"{place}: {printable(field)} is not {wanted}") from error


def _shown(name: object) -> str:
    return quote(str(name)).replace("'", '"')
