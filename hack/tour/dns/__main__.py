"""``python -m hack.tour.dns``: serves a cluster's zone from a folder of manifests, or a zone file."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import dns.name

from hack.tour.dns.cluster import DEFAULT_ZONE, ClusterZone
from hack.tour.dns.objects import Folder, Objects
from hack.tour.dns.server import PORT, Server, others
from hack.tour.dns.zone import Zone, from_file


def following(folder: Path, domain: str) -> Callable[[], Zone]:
    """The zone of a folder's objects, made anew when they have changed."""
    files, origin = Folder(folder), dns.name.from_text(domain)
    made: tuple[Objects, Zone] | None = None

    def zone() -> Zone:
        nonlocal made
        objects = files.objects()
        if made is None or made[0] is not objects:
            made = objects, ClusterZone(origin, objects)
        return made[1]

    return zone


async def serve(server: Server, address: str, port: int) -> None:
    print(f"dns: listening on {address} port {await server.listen(address, port)}", flush=True)
    await asyncio.Event().wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.tour.dns", description="A cluster's DNS server.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manifests", metavar="DIR", type=Path, help="Services and EndpointSlices, followed")
    source.add_argument("--zone-file", metavar="FILE", type=Path, help="any other zone, to play the rest of the world")
    parser.add_argument("--domain", default=DEFAULT_ZONE, help="the cluster's domain (default: %(default)s)")
    parser.add_argument("--listen", metavar="ADDRESS", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=PORT, help="0 for any; default: %(default)s")
    parser.add_argument("--forward", metavar="ADDRESS[#PORT]", nargs="*", default=[], help="who knows other names")
    options = parser.parse_args()
    try:
        if options.manifests:
            zone = following(options.manifests, options.domain)
            zone()
        else:
            fixed = from_file(options.zone_file.read_text())
            zone = lambda: fixed  # noqa: E731
        asyncio.run(serve(Server(zone, others(options.forward)), options.listen, options.port))
    except OSError as error:
        print(f"dns: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
