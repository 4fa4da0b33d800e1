"""A container's environment names the Services as a kubelet would."""

import pytest

from hack.tour import envvars
from hack.tour.dns.objects import Meta, Port, Service, ServiceSpec


def service(name: str, ip: str | None, *ports: Port, namespace: str = "shop") -> Service:
    return Service(Meta(name=name, namespace=namespace), ServiceSpec(cluster_ip=ip, ports=ports or (Port(port=80),)))


KUBERNETES = service("kubernetes", "10.96.0.1", Port(name="https", port=443, protocol="TCP"), namespace="default")
ITEM = service("item", "10.96.0.80", Port(name="http", port=80), Port(name="admin-ui", port=8081, protocol="UDP"))

OF_KUBERNETES = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "KUBERNETES_SERVICE_PORT_HTTPS": "443",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
    "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
    "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
    "KUBERNETES_PORT_443_TCP_PORT": "443",
    "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
}


def test_the_api_server_is_named_as_in_every_pod() -> None:
    assert envvars.of_service(KUBERNETES) == OF_KUBERNETES


def test_every_port_has_its_variables_and_the_first_those_without_a_name() -> None:
    assert envvars.of_service(ITEM) == {
        "ITEM_SERVICE_HOST": "10.96.0.80",
        "ITEM_SERVICE_PORT": "80",
        "ITEM_SERVICE_PORT_HTTP": "80",
        "ITEM_SERVICE_PORT_ADMIN_UI": "8081",
        "ITEM_PORT": "tcp://10.96.0.80:80",
        "ITEM_PORT_80_TCP": "tcp://10.96.0.80:80",
        "ITEM_PORT_80_TCP_PROTO": "tcp",
        "ITEM_PORT_80_TCP_PORT": "80",
        "ITEM_PORT_80_TCP_ADDR": "10.96.0.80",
        "ITEM_PORT_8081_UDP": "udp://10.96.0.80:8081",
        "ITEM_PORT_8081_UDP_PROTO": "udp",
        "ITEM_PORT_8081_UDP_PORT": "8081",
        "ITEM_PORT_8081_UDP_ADDR": "10.96.0.80",
    }


def test_an_ipv6_address_is_bracketed_in_urls_alone() -> None:
    made = envvars.of_service(service("web-front", "fd00:10:96::5"))
    assert made["WEB_FRONT_SERVICE_HOST"] == made["WEB_FRONT_PORT_80_TCP_ADDR"] == "fd00:10:96::5"
    assert made["WEB_FRONT_PORT"] == made["WEB_FRONT_PORT_80_TCP"] == "tcp://[fd00:10:96::5]:80"


@pytest.mark.parametrize("ip", ["None", "", None])
def test_services_without_a_cluster_ip_are_left_out(ip: str | None) -> None:
    assert envvars.of_pod([service("item", ip)], "shop") == {}


def test_a_pod_sees_its_own_namespace_and_the_api_server() -> None:
    services = [KUBERNETES, ITEM, service("item", "10.96.0.99", namespace="other"),
                service("cart", "10.96.0.98", namespace="default")]  # fmt: skip
    assert envvars.of_pod(services, "shop") == {**OF_KUBERNETES, **envvars.of_service(ITEM)}
    assert envvars.of_pod(services, "elsewhere") == OF_KUBERNETES


def test_without_service_links_only_the_api_server_is_left() -> None:
    assert envvars.of_pod([ITEM, KUBERNETES], "shop", enable_service_links=False) == OF_KUBERNETES
    assert envvars.of_pod([KUBERNETES], "default", enable_service_links=False) == OF_KUBERNETES


@pytest.mark.parametrize("order", [1, -1])
def test_an_own_service_called_kubernetes_hides_the_api_server(order: int) -> None:
    own = service("kubernetes", "10.96.7.7")
    made = envvars.of_pod([KUBERNETES, own][::order], "shop")
    assert made == envvars.of_service(own)
