"""The cluster of a long run, the daemon on its node, and all that is done to them."""

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from hack.bench.cluster import Bench, bench
from hack.bench.options import Size
from hack.bench.soak.samples import Counted, End, Event, Latency, Line, Sample
from hack.lab import LabError, Load, until
from hack.lab.kproxy import METRICS_PORT, select
from kproxy.backends.iptables.rules.names import cluster_chain
from kproxy.state.model import Protocol, ServicePortName
from tests.kit.apiserver.control import Verb
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port

OTHER = {"iptables": "nftables", "nftables": "iptables"}
PATIENCE = 120.0
STEADY_IP = "10.111.255.253"
COMERS = 20
"""Services that came last, and are still there; older ones have gone again."""
_VICTIM, _VICTIM_IP = ServicePortName("bench", "svc-00000", "http", Protocol.TCP), "10.96.0.1"
"""Somebody takes this one's rules away; nobody asks it."""


class SoakWorld:
    """A lab with one node under kproxy. Each method does one thing to it, or writes one thing down."""

    def __init__(self, it: Bench, mode: str, write: Callable[[Line], None], clock: Callable[[], float]) -> None:
        self._it = it
        self._mode = mode
        self._write = write
        self._clock = clock
        self._life = 0
        self._comers = itertools.count()
        self._page = {"boot": "", "since": ""}
        self._config = it.lab.folder / "config.json"
        self._expose("steady", STEADY_IP, it.lab.pod("left").ip)
        self._configure()
        self._start()
        self.load = Load(lambda: it.asker.ask(STEADY_IP, 80, timeout=5), every=0.2)

    # --- what is seen ----------------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Write down what the daemon holds."""
        process = Path(f"/proc/{self._it.kproxy.process.pid}")
        fds, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
        rss, cpu = self._it.rss_mib(), self._it.cpu_seconds()
        line = Sample(self._clock(), self._life, self._mode, rss, fds, threads, cpu)
        self._write(line)

    def scrape(self) -> None:
        """Read the metrics, as Prometheus does."""
        metrics = self._it.kproxy.metrics()

        def total(*names: str) -> float:
            return sum(sum(select(metrics, f"kproxy_{name}_total").values()) for name in names)

        repairs, relists = total("drift_repairs"), total("watch_relists")
        self._write(Counted(self._clock(), self._life, repairs, relists, total("watch_failures", "part_failures")))

    def move(self) -> None:
        """Change an endpoint, and write down how long it took until a packet met that."""
        self._write(Latency(self._clock(), self._it.move()))

    def look(self) -> None:
        """Ask what an open page asks."""
        boot, since = self._page.values()
        _, text = self._it.kproxy.get(f"/page.json?boot={boot}&since={since}" if boot else "/page.json", METRICS_PORT)
        answer = json.loads(text)
        self._page = {"boot": answer.get("boot", ""), "since": str(answer.get("number", ""))}
        self._it.kproxy.get("/page.json?service=bench/steady", METRICS_PORT)

    def ask_why(self) -> None:
        """Ask the page to explain."""
        self._it.kproxy.get("/page.json?explain=bench/steady", METRICS_PORT)

    def end(self) -> None:
        """Write down what the client saw that asked all the time."""
        tally = self.load.tally
        self._write(End(self._clock(), len(tally.answers), len(tally.failures)))

    # --- what is done ----------------------------------------------------------------------------------------------

    def come_and_go(self) -> None:
        """One Service with a new name and a new address comes, and one that came earlier goes."""
        number = next(self._comers)
        self._expose(f"comer-{number}", f"10.110.{number // 250 % 250}.{number % 250 + 1}", "10.201.0.1")
        if number >= COMERS:
            gone = f"comer-{number - COMERS}"
            for kind, name in (("endpointslices", f"{gone}-1"), ("services", gone)):
                if not self._it.server.control.delete(kind, "bench", name):
                    raise ValueError(f"there is no {name} among the {kind}: the cluster itself would grow")

    def api(self, verb: Verb, what: str) -> None:
        """Do something to the API server."""
        self._note(what)
        self._it.server.control.call(verb)

    def expire(self) -> None:
        """Forget all history and cut the watches: the next ones are told 410 Gone."""
        control = self._it.server.control
        self._note("410 Gone")
        control.call("refuse")
        control.call("cut_connections")
        control.put(*(self._it.probe_slice() for _ in range(2)))  # something is missed meanwhile
        control.call("compact")
        control.call("accept")

    def take_away(self) -> None:
        """Remove rules of kproxy's, as others do."""
        if self._mode == "iptables":
            command = ["iptables-legacy", "--wait", "-t", "nat", "-F", cluster_chain(_VICTIM)]
        else:
            command = ["nft", "delete", "element", "ip", "kproxy", "cluster-ips", f"{{ {_VICTIM_IP} }}"]
        self._it.lab.node.run(command, check=False)  # between a change of mode and its end there may be nothing

    def change_mode(self) -> None:
        """Go on with the other engine, in the running daemon."""
        self._mode = OTHER[self._mode]
        self._note(f"mode {self._mode}")
        self._configure()
        until(self._says_mode, PATIENCE, f"mode {self._mode}")
        self._it.kproxy.wait_ready(PATIENCE)

    def kill(self) -> None:
        """Kill the daemon, and start another."""
        self._note("kill -9")
        self._it.kproxy.process.kill()
        self._start()

    def restart(self) -> None:
        """End the daemon in good order, and start another."""
        self._note("restart")
        self._it.kproxy.stop()
        self._start()

    def reload(self) -> None:
        """Have it read everything anew."""
        os.kill(self._it.kproxy.process.pid, signal.SIGHUP)

    # --- how -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._life += 1
        args = ["--config", str(self._config), "--state-directory", str(self._it.lab.folder / "state")]
        self._it.start(args)
        self._it.kproxy.wait_ready(PATIENCE)

    def _configure(self) -> None:
        head = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
        draft = self._config.with_suffix(".draft")
        draft.write_text(json.dumps({**head, "mode": self._mode}))
        draft.rename(self._config)

    def _says_mode(self) -> bool:
        try:
            return self._it.kproxy.get("/proxyMode", METRICS_PORT)[1] == self._mode
        except OSError:
            return False

    def _note(self, what: str) -> None:
        self._write(Event(self._clock(), what))

    def _expose(self, name: str, ip: str, pod_ip: str) -> None:
        service = make_service(name, "bench", cluster_ip=ip, ports=[service_port(80, name="http", target_port=8080)])
        ends = [endpoint(pod_ip, node="node-a")]
        slice_ = make_slice(name, "bench", endpoints=ends, ports=[slice_port(8080, name="http")])
        self._it.server.control.put(service, slice_)


@contextlib.contextmanager
def soak_world(
    size: Size, mode: str, churn: float, write: Callable[[Line], None], clock: Callable[[], float]
) -> Iterator[SoakWorld]:
    """Build all of it, with a client that asks all the time and ``churn`` changes a second, as long as the block lasts.

    Raises:
        LabError: it can't be built, with the reason in one line.
    """
    with bench(size) as it:
        world = SoakWorld(it, mode, write, clock)
        with it.churn(churn), world.load:
            yield world


def surviving(do: Callable[[], object], tell: Callable[[str], None]) -> Callable[[], None]:
    """Return a function that does the same, and of which a failure is told and ends nothing."""

    def safely() -> None:
        try:
            do()
        except (OSError, ValueError, TimeoutError, LabError) as error:
            tell(f"{getattr(do, '__name__', do)}: {str(error).splitlines()[0] if str(error) else error!r}")

    return safely
