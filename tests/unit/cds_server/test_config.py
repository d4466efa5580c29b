"""A misspelt or impossible setting stops the server; none is silently off."""

from pathlib import Path

import pytest

from cds_server.config import Settings
from cds_server.errors import InvalidSettings
from cds_server.serve import as_environment, check_address
from fhir_mappers.report_context import DisplayMode


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "radcds.toml"
    file.write_text('threads = 4\nsite_name = "From file"\nnetwork = "net.toml"\n')
    settings = Settings.from_environment(
        {"RADCDS_CONFIG": str(file), "RADCDS_THREADS": "1", "HOME": "/"}
    )
    assert (settings.threads, settings.site_name) == (1, "From file")
    assert settings.network == Path("net.toml")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RADCDS_DISPLAYMODE", "triage_only", "unknown setting 'displaymode'"),
        ("RADCDS_DISPLAY_MODE", "off", "choose one of triage_only, overlay"),
        ("RADCDS_THREADS", "many", "threads"),
        ("RADCDS_THREADS", "0", "above zero"),
        ("RADCDS_TIMEZONE", "London", "Europe/London"),
        ("RADCDS_BASE_URL", "radcds.example.org", "base_url"),
        ("RADCDS_SILENT_WHEN_NORMAL", "perhaps", "true or false"),
        ("RADCDS_SESSION_IDLE_MIN", "0", "above zero"),
        ("RADCDS_OHIF_URL", "javascript:alert(1)", "ohif_url"),
        ("RADCDS_CONFIG", "/nowhere.toml", "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named_with_what_does(name: str, value: str, says: str) -> None:
    with pytest.raises(InvalidSettings, match=says):
        Settings.from_environment({name: value})


def test_settings_survive_the_way_to_another_process() -> None:
    settings = Settings(
        display_mode=DisplayMode.TRIAGE_ONLY, output=Path("out"), network=Path("net.toml")
    )
    assert Settings.from_environment(as_environment(settings)) == settings


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104 - it must be refused
def test_the_server_stays_on_loopback_unless_told_otherwise(host: str) -> None:
    with pytest.raises(InvalidSettings, match="--insecure"):
        check_address(host, insecure=False)
    check_address(host, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    check_address(host, insecure=False)


def test_a_host_that_is_no_address_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="no address"):
        check_address("not an address", insecure=True)
