"""What can go wrong between a ruleset and the kernel, each said in one line with its remedy."""

import errno

from kproxy.backends.base import BackendError, MissingError
from kproxy.backends.iptables.rules.ruleset import TableName

NEEDED_PRIVILEGE = "kproxy needs the capabilities NET_ADMIN and NET_RAW (run it as root or privileged)"


class NoIptablesError(MissingError):
    """Something that iptables needs is not there: the library, the kernel's support, a tool, a privilege."""


class LockTimeoutError(BackendError):
    """Another program has held the xtables lock all the time."""


class UnencodableRuleError(BackendError):
    """A rule holds a value that the kernel's structures have no room for; nothing was changed."""

    def __init__(self, table: TableName, chain: str, reason: str) -> None:
        super().__init__(f"table {table}, chain {chain}: {reason}")
        self.table = table
        self.chain = chain
        self.reason = reason


class KernelRefusedError(BackendError):
    """The kernel would not take a table; what was in force before still is."""

    def __init__(self, table: str, code: int, text: str, step: str, *, remedy: str = "") -> None:
        remedy = remedy or _REMEDIES.get(code, "")
        super().__init__(f"table {table}: {step}: {text}" + (f"; {remedy}" if remedy else ""))
        self.table = table
        self.code = code
        """errno."""
        self.text = text


class ForeignRulesError(KernelRefusedError):
    """The nft variant can't read a table, for there are native rules of nftables in it."""

    def __init__(self, table: str) -> None:
        super().__init__(
            table,
            errno.EINVAL,
            "it holds native rules of nftables, which iptables can't read",
            "reading it",
            remedy="take mode nftables (--proxy-mode nftables), which works beside them, or remove them with nft",
        )


class TableBusyError(KernelRefusedError):
    """Others changed the table between read and commit, several times in a row, without taking the xtables lock."""


class InterruptedReadingError(BackendError):
    """Counters could not be read to their end, for rules were to be written."""


_REMEDIES = {
    errno.EPERM: NEEDED_PRIVILEGE,
    errno.EACCES: NEEDED_PRIVILEGE,
    errno.ENOMEM: "the kernel has no memory for a table of this size; raise the node's or the cgroup's limit",
    errno.ENOENT: "a kernel module is missing (xt_comment, xt_conntrack, xt_addrtype, xt_mark, xt_statistic, "
    "xt_recent, xt_nat, xt_MASQUERADE, ipt_REJECT or ip6t_REJECT); load it on the node",
    errno.ENOPROTOOPT: "the kernel lacks ip_tables or ip6_tables; load the module or use the nft variant",
}
