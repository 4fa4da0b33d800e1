"""The nft variant: tables that iptables keeps in nftables, through iptables-nft-restore and iptables-nft-save.

For nodes whose other programs use this variant; kproxy's own nftables backend has nothing to do with it. Rules are
compared as the text that iptables-nft-save prints, which is how `render` spells them. An edit is a restore with
``--noflush`` of nothing but the edit: rules inserted and deleted by number, so that those that stay keep their
counters. Each table's part is one commit of the kernel's. The legacy tables are never touched.

Rewritten rules that count connections take over counters, see `heirs`; but ip6tables-nft 1.8.9 sets none.

iptables-nft takes no lock: the kernel refuses a commit made on an older state, and the tool then starts it over.
"""

import errno
import os
import re
import shutil
import subprocess
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from random import randrange
from typing import NamedTuple

from kproxy.backends.iptables.kernel.edit import Lazily, TableContent, TableEdit, heirs
from kproxy.backends.iptables.kernel.engine import Engine, OutOfStepError
from kproxy.backends.iptables.kernel.errors import ForeignRulesError, KernelRefusedError, NoIptablesError
from kproxy.backends.iptables.kernel.nft.names import chain_names
from kproxy.backends.iptables.kernel.nft.sweep import sweep
from kproxy.backends.iptables.kernel.nft.watch import NftWatch
from kproxy.backends.iptables.kernel.order import Reading, Steps
from kproxy.backends.iptables.rules.counted import Place, packets_at
from kproxy.backends.iptables.rules.firewall import KUBELET_CHAINS
from kproxy.backends.iptables.rules.names import is_ours
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS, render_rule
from kproxy.backends.iptables.rules.ruleset import Chain, TableName
from kproxy.backends.iptables.rules.ruletext import canonical, lines_of, target_of
from kproxy.backends.iptables.rules.served import claim_in_text, destinations_in_text
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily

_PREFIXES = {IPFamily.IPV4: "iptables-nft", IPFamily.IPV6: "ip6tables-nft"}
_TIMEOUT = 120.0
"""Seconds. Loading 70,000 rules takes a few; beyond this something is stuck."""

_COUNTED_RULE = re.compile(r"\[(\d+):\d+\] -A (\S+)")
_LISTED_COUNTERS = re.compile(r" -c (\d+ \d+)(?= -[jg] |$)")
_FAULTY_LINE = re.compile(r"line:? (\d+)")
_BANNER = re.compile(r"^\S+ v[\d.]+ \(nf_tables\):")
_TURN = re.compile(r"(--mode nth --every (\d+) --packet) \d+")
_FOREIGN = "is incompatible, use 'nft' tool."
_ERRORS = (errno.EPERM, errno.EACCES, errno.ENOMEM, errno.ENOENT, errno.EBUSY, errno.EEXIST)


CHAINS_AT_ONCE = 500
"""New chains that one run of iptables-nft-restore is given at the most."""


class Part(NamedTuple):
    """What one table is to be told, in one commit."""

    table: TableName
    commands: Iterable[str]


class NftTools:
    """One family's iptables-nft programs."""

    def __init__(self, family: IPFamily) -> None:
        """Raises NoIptablesError where they are not installed."""
        self._family = family
        self._save = _program(f"{_PREFIXES[family]}-save")
        self._restore = _program(f"{_PREFIXES[family]}-restore")
        self._iptables = _program(_PREFIXES[family])

    def save(self, table: str, *options: str) -> list[str]:
        """Return a table's lines; none where there is no such table. Raises KernelRefusedError."""
        done = _run([self._save, "-t", table, *options])
        if done.returncode != 0:
            raise _refusal(table, done.stderr, "reading it")
        if _FOREIGN in done.stdout:
            raise ForeignRulesError(table)
        return lines_of(done.stdout)

    def chains(self, table: str) -> frozenset[str]:
        """Return the names of a table's chains, also of one that iptables can't read."""
        try:
            lines = self.save(table)
        except ForeignRulesError:
            return chain_names(self._family, table)
        return frozenset(line[1:].partition(" ")[0] for line in lines if line.startswith(":"))

    def counters(self, table: str, chain: str) -> list[str]:
        """Return the counters of a chain's rules, "packets bytes"; none where there is no such chain."""
        listed = self.listing(table, chain)
        found = (_LISTED_COUNTERS.search(line) for line in listed if line.startswith("-A "))
        return [counters[1] if counters else "0 0" for counters in found]

    def listing(self, table: str, chain: str) -> list[str]:
        """Return a chain's rules with their counters, as commands; none where there is no such chain."""
        return lines_of(_run([self._iptables, "-t", table, "-v", "-S", chain]).stdout)

    def has_rule(self, table: str, chain: str, words: Iterable[str]) -> bool:
        """Tell whether a chain has a rule that is just so."""
        return _run([self._iptables, "-t", table, "-C", chain, *words]).returncode == 0

    def restore(self, parts: Iterable[Part]) -> None:
        """Make each part's commit. Raises KernelRefusedError; parts before the one of the table it names are done."""
        lines: list[str] = []
        tables: list[TableName] = []
        for name, commands in parts:
            lines += [f"*{name}", *commands, "COMMIT"]
            tables += [name] * (len(lines) - len(tables))
        done = _run([self._restore, "--noflush"], "\n".join([*lines, ""]))
        if done.returncode != 0:
            found = _FAULTY_LINE.search(done.stderr)
            table = tables[min(int(found[1]), len(tables)) - 1] if found else tables[0]
            raise _refusal(table, done.stderr, "iptables-nft-restore")


def _ahead(steps: Steps[str]) -> tuple[list[list[Part]], Steps[str]]:
    """Return what can be brought in before the edits, run by run, because nothing leads there yet; and the other edits.

    iptables-nft-restore keeps a list of the chains that its input names, and goes through it for every line. So many
    new chains come some at a time: with 11,000 chains and 60,000 rules that takes a tenth of the time.
    """
    runs: list[list[Part]] = []
    left: list[tuple[TableName, TableEdit[str]]] = []
    for name, edit in steps:
        if len(edit.fill) > CHAINS_AT_ONCE:
            # From the last: each is put into that list in order, and finds its place at its beginning.
            runs.append([Part(name, [f":{chain} - [0:0]" for chain in sorted(edit.fill, reverse=True)])])
            chains = iter(edit.fill.items())
            while batch := list(islice(chains, CHAINS_AT_ONCE)):
                runs.append([Part(name, [f"-A {chain}{_begun(rule)}" for chain, rules in batch for rule in rules])])
            edit = TableEdit(hunks=edit.hunks, remove=edit.remove)
        left.append((name, edit))
    return runs, left


def _commands(edit: TableEdit[str], read_counters: Callable[[str], Sequence[str]]) -> Iterator[str]:
    # Declared, not made by -N, which has the program read all there is. A chain that is there after all is emptied.
    yield from (f":{chain} - [0:0]" for chain in edit.fill)
    for chain, rules in edit.fill.items():
        yield from (f"-A {chain}{_begun(rule)}" for rule in rules)
    for chain, hunks in edit.hunks.items():
        inherited = [heirs(hunk, _nat_destination) for hunk in hunks]
        counters = read_counters(chain) if any(inherited) else ()
        for hunk, old_of in reversed(list(zip(hunks, inherited, strict=True))):  # so that numbers before it stay true
            yield from (f"-D {chain} {hunk.at + 1}" for _ in hunk.old)
            for number, rule in enumerate(hunk.new):
                old = hunk.at + old_of[number] if number in old_of else len(counters)
                counted = f" -c {counters[old]}" if old < len(counters) else ""
                yield f"-I {chain} {hunk.at + number + 1}{counted}{_begun(rule)}"
    yield from (f"-X {chain}" for chain in edit.remove)


def _begun(rule: str) -> str:
    """Have a turn begin at a random place: it begins anew whenever its rule is written."""
    if " --mode nth " not in rule:
        return rule
    return _TURN.sub(lambda found: f"{found[1]} {randrange(int(found[2]))}", rule)  # noqa: S311 - no secret


def _nat_destination(rule: str) -> str:
    return rule.partition(" -j DNAT ")[2]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NoIptablesError(f"the program {name} is not installed; the package iptables brings it")
    return path


def _run(command: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
    try:
        # Others' comments are any bytes.
        return subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="backslashreplace", timeout=_TIMEOUT
        )
    except OSError as err:
        raise NoIptablesError(f"{command[0]} does not start: {err.strerror}") from err
    except subprocess.TimeoutExpired as err:
        raise NoIptablesError(f"{command[0]} has not ended after {_TIMEOUT:g} seconds") from err


def _refusal(table: str, output: str, step: str) -> KernelRefusedError:
    said = [_BANNER.sub("", line).strip() for line in output.splitlines() if not line.startswith(("Try ", "#"))]
    text = "; ".join(line for line in said if line) or "no reason given"
    code = next((code for code in _ERRORS if os.strerror(code) in text), errno.EINVAL)
    return KernelRefusedError(table, code, text, step)


class NftApplier(Engine[str]):
    """See `Applier`. Others' edits to chains that concern kproxy are noticed one by one, whatever they change."""

    def __init__(self, family: IPFamily) -> None:
        """Raises NoIptablesError where the machine cannot do it. Acts on the calling thread's network namespace."""
        super().__init__(family, Reading(target_of, claim_in_text))
        self._tools = NftTools(family)
        self._watch = NftWatch(family)

    def drifted(self) -> bool:
        """Tell, for some microseconds, whether the tables may not be as the last call left them."""
        return self._watch.changed()

    def udp_frontends(self) -> Set[Destination]:
        """Read where the rules in force now, whoever wrote them, take in UDP for services."""
        return frozenset(destinations_in_text(self._tools.save(TableName.NAT)))

    def counted(
        self, places: Mapping[TableName, Iterable[Place]], version: int, hurry: Callable[[], bool] = lambda: False
    ) -> "Mapping[TableName, array[int]]":
        """Read how many packets the rules at these places have met. See `Applier`."""
        del version, hurry
        return {name: packets_at(its, self._packets(name)) for name, its in places.items()}

    def _packets(self, name: TableName) -> Mapping[str, Sequence[int]]:
        """Return those that each rule has met, by chain of ours."""
        packets: dict[str, list[int]] = {}
        for line in self._tools.save(name, "-c"):
            if line.startswith(":") and is_ours(name, chain := line[1:].partition(" ")[0]):
                packets[chain] = []
            elif (found := _COUNTED_RULE.match(line)) and found[2] in packets:
                packets[found[2]].append(int(found[1]))
        return packets

    def make_way(self) -> None:
        """End what `counted` does in another thread. Nothing here keeps anybody waiting."""

    def cleanup(self, *, keep_guard: bool = False) -> None:
        """Remove all that is kproxy's or kube-proxy's, and nothing else; also from among others' native rules."""
        try:
            super().cleanup(keep_guard=keep_guard)
        except ForeignRulesError:
            sweep(self._tools, lambda *part: self._tools.restore([Part(*part)]), self.family, keep_guard=keep_guard)

    def close(self) -> None:
        """Let go of the sockets; the rules stay in force."""
        self._watch.close()

    def _exclusively(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _form(self, name: TableName, chain: str, rules: Chain) -> list[str]:
        del name, chain
        return [render_rule(rule, self.family) for rule in rules]

    def _read(self, name: TableName, expected: Callable[[str], Sequence[str]]) -> TableContent[str]:
        chains: dict[str, list[str]] = {builtin: [] for builtin in BUILTIN_CHAINS[name]}
        for line in self._tools.save(name):
            if line.startswith(":"):
                chains.setdefault(line[1:].partition(" ")[0], [])
            elif line.startswith("-A "):
                chain, blank, rule = _TURN.sub(r"\1 0", line[3:]).partition(" ")
                chains[chain].append(blank + rule)
        return TableContent(
            chains=Lazily(chains, lambda chain: _spelled_alike(chains[chain], expected(chain))),
            builtins=BUILTIN_CHAINS[name],
            target=target_of,
        )

    def _exists(self, name: TableName) -> bool:
        del name  # saving makes no table
        return True

    def _has_kubelet(self) -> bool:
        return not KUBELET_CHAINS.isdisjoint(self._tools.chains("mangle"))

    def _is_certain(self) -> bool:
        return not self._watch.changed()

    def _forget(self) -> None:
        self._watch.forget()

    def _start_watching(self) -> None:
        self._watch.start()

    def _write(self, steps: Steps[str], *, check: bool) -> None:
        if not steps:
            return
        runs, left = _ahead(steps)
        try:
            with self._watch.own_commits(sum(map(len, runs)) + len(left)):
                for run in runs:
                    self._tools.restore(run)
                counters = self._tools.counters
                self._tools.restore(Part(name, _commands(edit, partial(counters, name))) for name, edit in left)
        except KernelRefusedError as err:
            if check:  # a chain was not there, or still in use by others' rules
                raise OutOfStepError(str(err)) from err
            raise


def _spelled_alike(found: list[str], expected: Sequence[str]) -> list[str]:
    """Return rules in our spelling where they are what is expected, whatever this release's spelling is."""
    if found == expected or not expected:
        return found
    spellings = dict.fromkeys(expected)
    if spellings.keys() >= set(found):
        return found
    ours = {canonical(rule): rule for rule in expected}
    return [rule if rule in spellings else ours.get(canonical(rule), rule) for rule in found]
