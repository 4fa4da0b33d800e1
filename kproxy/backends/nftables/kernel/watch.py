"""Notices when somebody else changes kproxy's table, and what elements of its own had counted when they went.

nf_tables tells every listener all that a transaction changed, ours included, and ends it with the number of the new
generation. So after one of ours exactly one transaction must have touched the table; any other is somebody else's.
"""

from typing import NamedTuple

from kproxy.backends.nftables.kernel import netlink
from kproxy.backends.nftables.kernel.netlink import Message, Notices, NoticesLost, Reader, attributes, text
from kproxy.backends.nftables.rules import names
from kproxy.state.model import IPFamily


class Heard(NamedTuple):
    """What was said about kproxy's table since the last time."""

    transactions: int
    """How many transactions touched it."""
    elements_gone: tuple[memoryview, ...] = ()
    """The bodies of messages about elements that were removed, with what these had counted."""
    complete: bool = True
    """Whether nothing was missed."""


class Watch:
    """Listens for changes of kproxy's table of one family."""

    def __init__(self, family: IPFamily, reader: Reader) -> None:
        """Raises NoNftablesError where there is no nf_tables."""
        self._number = netlink.FAMILY_NUMBERS[family]
        self._reader = reader
        self._notices: Notices | None = Notices()
        self._touched = False
        """Whether the transaction that is being told of has touched the table."""
        self._generation = 0

    def hear(self) -> Heard:
        """Take in all that has been said. Raises NoNftablesError where there is no socket to hear by; ask again."""
        if self._notices is None:  # there was none to be had the last time
            self._listen_anew()
            return Heard(0, complete=False)
        gone: list[memoryview] = []
        transactions = 0
        try:
            for message in self._notices.pending():
                if message.kind == netlink.NEW_GENERATION:
                    transactions += self._touched
                    self._touched = False
                elif self._is_ours(message):
                    self._touched = True
                    if message.kind == netlink.DEL_ELEMENT:
                        gone.append(message.body)
        except NoticesLost:
            self._listen_anew()
            return Heard(transactions, tuple(gone), complete=False)
        return Heard(transactions, tuple(gone))

    def _is_ours(self, message: Message) -> bool:
        if message.family != self._number:
            return False
        name = attributes(message.body).get(netlink.TABLE_ATTRIBUTE)
        return name is not None and text(name) == names.TABLE

    def _listen_anew(self) -> None:
        self.close()
        self._notices = Notices()
        self._touched = False

    def look_away(self) -> Heard:
        """Stop listening during a large transaction, of which there would be too much to hear.

        Return what was heard so far.
        """
        heard = self.hear()
        self.close()
        self._generation = self._reader.generation()
        return heard

    def look_again(self, transactions: int) -> bool:
        """Listen again after as many transactions of ours; tell whether there were no others meanwhile."""
        self._listen_anew()
        return self._reader.generation() == (self._generation + transactions) % 2**32

    def close(self) -> None:
        """Stop listening for good."""
        if self._notices is not None:
            self._notices.close()
            self._notices = None
