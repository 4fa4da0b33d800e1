"""Kernel settings in the course of a node's life: made once the rules are there, put back when their mode goes.

What a setting opens is closed by a rule, so the order counts: the rule comes before the setting and goes after it, and
where the setting stays, for whatever reason, the rule stays, too.
"""

import enum
from collections.abc import Collection, Iterable

from kproxy import logs
from kproxy.backends.base import BackendError
from kproxy.config import Config
from kproxy.daemon import engines
from kproxy.node import sysctl
from kproxy.node.raised import Found, Notes
from kproxy.node.sysctl import PASSING, ROUTE_LOCALNET, Setting

log = logs.get("daemon")


class Way(enum.Enum):
    """What to do about a setting that nothing in kproxy asks for any more."""

    PUT_BACK = enum.auto()
    """kproxy raised it, and nobody else needs it."""
    AS_FOUND = enum.auto()
    """It is as it was before kproxy; so may the rest be."""
    KEEP_GUARDED = enum.auto()
    """It stays, and with it the rule that closes what it opens."""


def way_back(current: int | None, found: Found | None, others: Collection[str]) -> Way:
    """Decide what becomes of a setting at 1 or 0, given what kproxy ``found``, and who else relies on its guard.

    Where nobody knows who raised it, the guard stays: better a rule too many than 127.0.0.1 open to the network.
    """
    if not current:
        return Way.AS_FOUND
    if others or found is None or (found.value and found.guarded):
        return Way.KEEP_GUARDED
    return Way.AS_FOUND if found.value else Way.PUT_BACK


class KernelSettings:
    """Makes settings and puts them back; remembers over restarts what they were."""

    def __init__(self, config: Config) -> None:
        """Look at how things are before kproxy changes any rule."""
        self._config = config
        self._notes = Notes(config.kproxy.state_directory)
        unknown = sysctl.read(ROUTE_LOCALNET) and self._notes.found(ROUTE_LOCALNET.name) is None
        self._guarded_before = bool(unknown) and engines.is_guarded()

    def make(self) -> None:
        """Write what the configuration asks for, now that the rules are in force that guard what it opens."""
        self._make(self._wanted())

    def _wanted(self) -> tuple[Setting, ...]:
        return tuple(sysctl.wanted(self._config, sysctl.online_cores()))

    def _make(self, settings: Iterable[Setting]) -> None:
        for setting in settings:
            self._note(setting)
            (outcome,) = sysctl.apply([setting])
            if outcome.problem:
                # That the module is missing is said once, as a problem of the node, not for each of its settings.
                say = log.routine if outcome.missing_module else log.warning
                say(outcome.problem)
            elif outcome.written:
                log.info("set a sysctl", name=setting.name, before=outcome.found, now=setting.value)

    def retry(self, reason: str) -> None:
        """Make what could not be made before: a reason for that may be gone, see `kproxy.node.problems`."""
        if reason == "NoConntrack":
            self.make()

    def make_without_rules(self) -> None:
        """Write them before there are any rules, but for the guard: what ``--init-only`` is for."""
        wanted = list(self._wanted())
        if ROUTE_LOCALNET in wanted and not sysctl.read(ROUTE_LOCALNET):
            try:
                engines.guard(self._config)
            except BackendError as error:
                log.warning(
                    "route_localnet stays as it is, since the rule that guards 127.0.0.1 can't be made", problem=error
                )
                wanted.remove(ROUTE_LOCALNET)
        self._make(wanted)
        self.put_back()

    def put_back(self, *, everything: bool = False) -> bool:
        """Put back what the configuration does not ask for (any more); return whether the guard must stay.

        With ``everything``, nothing is asked for: kproxy is about to leave this node.
        """
        wanted = () if everything else self._wanted()
        ways = {setting: self._put_back(setting) for setting in PASSING if setting not in wanted}
        return ways.get(ROUTE_LOCALNET, Way.KEEP_GUARDED) is Way.KEEP_GUARDED

    def _note(self, setting: Setting) -> None:
        value = sysctl.read(setting) if setting.passing else None
        if value is None or (value and self._notes.found(setting.name) is not None):
            return
        try:
            self._notes.note(setting.name, Found(value, guarded=setting is ROUTE_LOCALNET and self._guarded_before))
        except OSError as error:
            log.routine("what a sysctl was before can't be kept for the next start", name=setting.name, problem=error)

    def _put_back(self, setting: Setting) -> Way:
        current, found = sysctl.read(setting), self._notes.found(setting.name)
        others = tuple(dict.fromkeys(engines.others_who_guard())) if current else ()
        way = way_back(current, found, others)
        if way is Way.KEEP_GUARDED and not others and not engines.is_guarded():
            way = Way.AS_FOUND  # there is nothing to keep: who raised it left it open, which kproxy never does
        if way is Way.PUT_BACK and found is not None:
            if problem := sysctl.put_back(setting, found.value):
                log.warning(problem)
                return Way.KEEP_GUARDED
            log.info("put a sysctl back", name=setting.name, before=current, now=found.value)
        elif way is Way.KEEP_GUARDED and setting is ROUTE_LOCALNET:
            _tell_why_it_stays(others)
        if way is not Way.KEEP_GUARDED:
            try:
                self._notes.forget(setting.name)
            except OSError as error:
                log.routine("the note of what a sysctl was before can't be removed", name=setting.name, problem=error)
        return way


def _tell_why_it_stays(others: Collection[str]) -> None:
    if others:
        log.routine("route_localnet stays, and the rule that guards 127.0.0.1", needed_by=" and ".join(others))
        return
    log.warning(
        "route_localnet was 1 before kproxy, or may have been: it stays, and so does the rule in KUBE-FIREWALL that "
        "guards 127.0.0.1; if nothing needs it, run on the node: sysctl -w net.ipv4.conf.all.route_localnet=0"
    )
