"""Fixtures for all tests; each set of them lives beside what it sets up."""

from tests.apiserver.fixtures import api_server as api_server
from tests.apiserver.fixtures import kubeconfig as kubeconfig
from tests.conntrackkit import dns as dns
from tests.conntrackkit import net as net
from tests.labfixtures import lab as lab
from tests.worldfixtures import idle_world as idle_world
from tests.worldfixtures import kproxy_args as kproxy_args
from tests.worldfixtures import world as world
