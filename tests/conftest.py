"""Fixtures for all tests; each set of them lives beside what it sets up."""

from tests.kit.apiserver.fixtures import api_server as api_server
from tests.kit.apiserver.fixtures import kubeconfig as kubeconfig
from tests.kit.conntrack import dns as dns
from tests.kit.conntrack import net as net
from tests.kit.lab import lab as lab
from tests.kit.world import idle_world as idle_world
from tests.kit.world import kproxy_args as kproxy_args
from tests.kit.world import world as world
