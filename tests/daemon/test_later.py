"""What is loaded or made when it is first asked for: once, whoever asks, and as the real thing would behave."""

import importlib
import subprocess
import sys
import threading

import pytest

from kproxy.daemon.later import Once, forget, later

MODULE = "wsgiref.validate"  # one that nothing else here needs


@pytest.fixture(autouse=True)
def absent() -> None:
    sys.modules.pop(MODULE, None)


def test_a_module_is_imported_when_something_of_it_is_asked_for() -> None:
    module = later(MODULE)
    assert MODULE not in sys.modules
    assert module.validator is sys.modules[MODULE].validator


def test_what_a_module_lacks_it_lacks() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = later(MODULE).nonsense


def test_a_module_that_is_not_there_is_said_so_when_it_is_asked_for() -> None:
    module = later("kproxy.nonsense")
    with pytest.raises(ModuleNotFoundError, match=r"kproxy\.nonsense"):
        _ = module.anything


def test_of_many_who_ask_at_once_one_makes_it() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    value = Once(make)
    assert not made
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(value())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, found) == ([1], [1] * 8)


def test_what_could_not_be_made_is_tried_again() -> None:
    answers = iter((OSError("no"), 7))

    def make() -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    value = Once(make)
    with pytest.raises(OSError, match="no"):
        value()
    assert value() == 7


HELD_ON_TO = """
import pkgutil, importlib, sys, types
import kproxy.daemon
from kproxy.daemon import engines
for room in ("kproxy.daemon", "kproxy.held", "kproxy.report", "kproxy.explain", "kproxy.conntrack", "kproxy.node"):
    package = importlib.import_module(room)
    for found in pkgutil.walk_packages(package.__path__, room + "."):
        importlib.import_module(found.name)
from kproxy.backends.iptables import backend
from kproxy.backends.nftables import backend
forgotten = tuple(name + "." for name in (*engines.PACKAGES.values(), *engines.WHO_KNOW_BOTH))
def origin(value):
    return value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
for name, module in list(sys.modules.items()):
    if name.startswith("kproxy.") and not (name + ".").startswith(forgotten):
        for attribute, value in vars(module).items():
            if (origin(value) + ".").startswith(forgotten) and type(value).__name__ != "_Later":
                if not isinstance(value, types.ModuleType) or value.__name__ != f"{name}.{attribute}":
                    print(f"{name}.{attribute}")
"""


def test_nobody_holds_on_to_what_is_forgotten_with_a_mode() -> None:
    """Who did would have two engines in memory, and take the exceptions of one for strangers to the other."""
    command = [sys.executable, "-c", HELD_ON_TO]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


LATE = """
import importlib, weakref
from kproxy.config import ProxyMode
from kproxy.daemon import engines
from kproxy.node import memory
module = weakref.ref(importlib.import_module("kproxy.backends.nftables.backend"))
memory.settle()
engines._forget_engine(ProxyMode.NFTABLES)
print(module() is None)
"""


def test_an_engine_is_let_go_of_though_all_was_settled_before_its_rules_were_gone() -> None:
    """As after a first sync that takes seconds: what is there then is not looked through any more."""
    assert subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True).stdout == "True\n"


def test_what_is_forgotten_is_loaded_anew() -> None:
    module = later(MODULE)
    before = module.validator
    forget("wsgiref")
    assert MODULE not in sys.modules
    assert module.validator is not before
    forget("wsgiref")
    assert not hasattr(importlib.import_module("wsgiref"), "validate")
