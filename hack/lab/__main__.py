"""``python -m hack.lab``: a lab with four pods to walk around in, until Enter or Ctrl-C."""

import sys

from hack.lab import Lab, LabError

PODS = (("web-1", "node-a"), ("web-2", "node-a"), ("web-3", "node-b"), ("shop", "node-a"))


def main() -> int:
    try:
        with Lab() as lab:
            for name, node in PODS:
                lab.add_pod(name, node).serve(8080)
            hosts = (lab.client, *lab.nodes.values(), *lab.pods.values())
            width = max(len(host.namespace.name) for host in hosts)
            for host in hosts:
                print(f"{host.namespace.name:<{width}}  {host.ip:<12}  {host.ip6}")
            shop, web = lab.pod("shop").namespace.name, lab.pod("web-3").ip
            print(f"\nTry, in another terminal:\n  ip netns exec {shop} bash -c 'head -1 < /dev/tcp/{web}/8080'\n")
            print("Enter ends the lab.")
            sys.stdin.readline()
    except LabError as error:
        print(f"hack.lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
