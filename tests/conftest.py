"""Shared fixtures: real images, the shipped model, golden files."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
from browsing import FLAGS, chromium
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from ai_engine.bundle import default_bundle_path
from ai_engine.engine import Engine
from ai_engine.image import Image
from fhir_mappers.pixels import image

# A busy machine is no fault of what is tested: how long an example takes is not judged.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

GOLDEN = Path(__file__).parent / "golden"


def sample(name: str) -> Path:
    """Find a real image of pydicom-data."""
    found = get_testdata_file(name, download=False)
    assert found, f"{name} is missing: pip install pydicom-data"
    return Path(str(found))


_one_tls_context = functools.cache(httpx.create_ssl_context)


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the trusted authorities once in the unit suite, where nothing leaves the process."""
    if "unit" in request.path.parts:
        monkeypatch.setattr(httpx, "create_ssl_context", _one_tls_context)


@pytest.fixture(scope="session")
def rg1_path() -> Path:
    return sample("RG1_UNCR.dcm")


@pytest.fixture
def rg1(rg1_path: Path) -> Dataset:
    return pydicom.dcmread(rg1_path)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine.from_path(default_bundle_path())


@pytest.fixture
def golden() -> Callable[[str, bytes], None]:
    """Compare bytes with a golden file; RADCDS_UPDATE_GOLDEN=1 rewrites it."""

    def compare(name: str, content: bytes) -> None:
        path = GOLDEN / name
        if os.environ.get("RADCDS_UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert path.exists(), f"no golden file {name}; RADCDS_UPDATE_GOLDEN=1 writes it"
        assert content == path.read_bytes()

    return compare


@pytest.fixture
def rg1_image(rg1: Dataset) -> Image:
    return image(rg1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()
