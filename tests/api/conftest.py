"""For the tests of the way to an API server."""

from collections.abc import Iterator

import pytest

from tests.kit.sources.ways import CA


@pytest.fixture(autouse=True, scope="package")
def few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the system trust one authority rather than all the world's, which OpenSSL reads anew for each client."""
    bundle = tmp_path_factory.mktemp("system") / "ca.pem"
    bundle.write_bytes(CA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(bundle))
        patch.setenv("SSL_CERT_DIR", str(bundle.parent / "none"))
        yield
