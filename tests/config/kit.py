"""What tests of the configuration file share."""

import pytest

from kproxy.config import ConfigError, parse_config

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
OWN_HEAD = "apiVersion: kproxy.dev/v1alpha1\nkind: KproxyConfiguration\n"


def problems(text: str) -> tuple[str, ...]:
    """Return what is said of a text that is no configuration."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f")
    return caught.value.problems
