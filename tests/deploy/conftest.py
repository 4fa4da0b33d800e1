"""The image, for whatever reads it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.deploy.image import Image, the_image


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with the_image() as image:
        yield image


@pytest.fixture(scope="module")
def root(image: Image) -> Iterator[Path]:
    """Its files, for the tests of one module alone."""
    with image.unpacked() as root:
        yield root
