"""What is loaded or made when it is first asked for: once, whoever asks, and as the real thing would behave."""

import sys
import threading

import pytest

from kproxy.daemon.later import Once, later

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
