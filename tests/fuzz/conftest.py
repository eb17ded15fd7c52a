"""One gateway for everything that is sent."""

from collections.abc import Generator

import pytest

from tests.fuzz.target import Target, target


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Target]:
    """The gateway, which is judged by its log as well once everything was sent."""
    with target(tmp_path_factory.mktemp("fuzz")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def serves_afterwards(gateway: Target) -> Generator[None]:
    """Whatever a test has sent, the gateway goes on as before."""
    yield
    gateway.assert_well()
