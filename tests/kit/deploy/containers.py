"""Runs containers of the image as the kubelet would.

crun runs them: it is what real nodes use, and gives them exactly the rights, mounts and read-only places that the
manifests in deploy/ ask for.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.kit.apiserver.kinds import Json


class Mount(NamedTuple):
    """A folder or file of the machine's in the container."""

    source: Path
    destination: str
    read_only: bool = False


class Bundle(NamedTuple):
    """What an OCI runtime is given: a folder with ``config.json``."""

    folder: Path
    command: Sequence[str]


def bundle(
    folder: Path,
    root: Path,
    *,
    args: Sequence[str],
    env: Mapping[str, str],
    security: Json,
    mounts: Sequence[Mount] = (),
) -> Bundle:
    """A container with the host's network, as ``securityContext`` in Kubernetes describes it.

    The command is to be run within ``ip netns exec``, whose mount namespace is put to use.
    """
    folder.mkdir()
    for mount in mounts:  # as a runtime does before the root file system is made read-only
        place = root / mount.destination.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if mount.source.is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()
    config = {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": security.get("runAsUser", 0), "gid": security.get("runAsUser", 0)},
            "args": list(args),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _capabilities(security)),
            "noNewPrivileges": security.get("allowPrivilegeEscalation") is False,
        },
        "root": {"path": str(root), "readonly": security.get("readOnlyRootFilesystem", False)},
        "mounts": [*_SYSTEM_MOUNTS, *(_bind(mount) for mount in mounts)],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "readonlyPaths": [] if security.get("privileged") else ["/proc/sys", "/proc/sysrq-trigger"],
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    # crun 1.8 wants to know what cgroups there are, and doesn't want cgroups; it gets an empty set of them, in a mount
    # namespace of its own.
    script = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    crun = ["crun", "--root", str(folder / "state"), "--cgroup-manager=disabled", "run", "--bundle", str(folder)]
    return Bundle(folder, ["sh", "-c", script, "sh", *crun, f"kproxy-{os.getpid()}-{folder.name}"])


WITHOUT_RIGHTS = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"], "add": []},
}
"""A ``securityContext`` that allows nothing; ``runAsUser`` may be added."""


def run(
    folder: Path, root: Path, args: Sequence[str], *, user: int = 0, mounts: Sequence[Mount] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program of the image that needs no rights, with the network of the test; wait for it."""
    security = {**WITHOUT_RIGHTS, "runAsUser": user}
    made = bundle(folder, root, args=args, env={"PATH": "/usr/bin"}, security=security, mounts=mounts)
    command = ["unshare", "--mount", *made.command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _capabilities(security: Json) -> list[str]:
    if security.get("privileged"):
        status = Path("/proc/self/status").read_text()
        ours = int(next(line for line in status.splitlines() if line.startswith("CapPrm")).split()[1], 16)
        return [name for number, name in enumerate(_ALL_CAPABILITIES) if ours & 1 << number]
    assert security["capabilities"]["drop"] == ["ALL"]
    return [f"CAP_{name}" for name in security["capabilities"]["add"]]


def _bind(mount: Mount) -> dict[str, Any]:
    options = ["rbind", "ro" if mount.read_only else "rw"]
    return {"destination": mount.destination, "type": "bind", "source": str(mount.source), "options": options}


_SYSTEM_MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev"]},  # noqa: S108
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]  # fmt: skip
"""What every container has."""

_ALL_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
]  # fmt: skip
"""In the order of linux/capability.h."""
