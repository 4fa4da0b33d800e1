"""Label and field selectors of the test API server."""

import pytest

from tests.kit.apiserver.kinds import kind_named
from tests.kit.apiserver.rest.selectors import parse_selector
from tests.kit.apiserver.rest.status import ApiError

SERVICES = kind_named("services")
LABELS = {"app": "web", "tier": "front", "example.com/part": "a"}
FIELDS = {"metadata.name": "web", "metadata.namespace": "shop", "spec.clusterIP": "None", "spec.type": "ClusterIP"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        (" ", True),
        ("app", True),
        ("other", False),
        ("!other", True),
        ("!app", False),
        ("app=web", True),
        ("app==web", True),
        ("app=shop", False),
        ("app!=shop", True),
        ("app!=web", False),
        ("other!=web", True),
        ("other=", False),
        ("app in (web,shop)", True),
        ("app in ( shop , api )", False),
        ("app notin (shop)", True),
        ("app notin (web)", False),
        ("other notin (web)", True),
        ("other in (web)", False),
        ("example.com/part=a", True),
        ("!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless", True),
        ("app in (web,shop),tier=front,!other", True),
        ("app in (web,shop),tier=back", False),
    ],
)
def test_label_selector(selector: str, selected: bool) -> None:
    assert parse_selector(SERVICES, selector, "").matches(LABELS, FIELDS) is selected


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("metadata.name=web", True),
        ("metadata.name==web", True),
        ("metadata.name!=web", False),
        ("metadata.namespace=shop,metadata.name=web", True),
        ("metadata.namespace=default", False),
        ("spec.clusterIP!=None", False),
        ("spec.clusterIP=None", True),
        ("spec.type!=ExternalName", True),
    ],
)
def test_field_selector(selector: str, selected: bool) -> None:
    assert parse_selector(SERVICES, "", selector).matches(LABELS, FIELDS) is selected


@pytest.mark.parametrize(
    ("labels", "fields", "complaint"),
    [
        ("app=web=", "", "unable to parse requirement: 'app=web='"),
        ("app in web", "", "unable to parse requirement: 'app in web'"),
        ("!", "", "unable to parse requirement: '!'"),
        ("", "spec.ports=80", 'field label not supported: "spec.ports"'),
        ("", "metadata.name", "invalid selector: 'metadata.name'"),
    ],
)
def test_bad_selector_is_refused(labels: str, fields: str, complaint: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_selector(SERVICES, labels, fields)

    assert caught.value.code == 400
    assert complaint in caught.value.body["message"]
