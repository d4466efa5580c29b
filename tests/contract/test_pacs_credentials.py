"""A PACS sees who this server is, nobody else does, and a new secret counts at once."""

import base64
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from dicom_files import SERIES_UID, artefacts, dicom_file, result
from standing_clock import StandingClock
from strict_pacs import StrictPacs, answers, strict_pacs
from studies import STUDY_UID

from cds_server.adapters.azure_pacs_credentials import SCOPE, AzurePacsCredentials
from cds_server.adapters.dicomweb_archive import DicomWebArchive
from cds_server.adapters.dicomweb_destination import DicomWebDestination
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.pacs_credentials import (
    BasicCredentials,
    BearerCredentials,
    Credentials,
)
from cds_server.errors import ArchiveUnreachable, DeliveryFailed, InvalidSettings

UIDS = (STUDY_UID, SERIES_UID, f"{SERIES_UID}.1")


class Entra:
    """Where tokens come from: ``token-1`` first, each an hour long."""

    def __init__(self, clock: StandingClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, ...]] = []
        self.fails: Exception | None = None

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        if self.fails:
            raise self.fails
        self.asked.append(scopes)
        expires = self.clock.now() + timedelta(hours=1)
        return AccessToken(f"token-{len(self.asked)}", int(expires.timestamp()))


@pytest.fixture
def pacs() -> Iterator[StrictPacs]:
    with strict_pacs() as running:
        running.add(dicom_file())
        running.tokens = {"token-1"}
        yield running


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def entra(clock: StandingClock) -> Entra:
    return Entra(clock)


@pytest.fixture
def azure(pacs: StrictPacs, entra: Entra, clock: StandingClock) -> AzurePacsCredentials:
    return AzurePacsCredentials(pacs.url, clock=clock, credential=entra)


def service(pacs: StrictPacs, credentials: Credentials | None) -> DicomWebService:
    return DicomWebService(pacs.url, clock=StandingClock(), credentials=credentials)


# --- Azure


def test_azure_is_read_from_and_written_to(
    pacs: StrictPacs, azure: AzurePacsCredentials, entra: Entra
) -> None:
    given = service(pacs, azure)
    archive = DicomWebArchive(given)
    (arrival,) = archive.arrivals()
    assert arrival.study_instance_uid == STUDY_UID
    assert archive.metadata(STUDY_UID)
    assert archive.instance(*UIDS) == dicom_file()
    DicomWebDestination(given).deliver(result(), artefacts(report=dicom_file(2)))
    assert {each.headers["authorization"] for each in pacs.seen} == {"Bearer token-1"}
    assert entra.asked == [(SCOPE,)]
    assert SCOPE == "https://dicom.healthcareapis.azure.com/.default"


def test_a_token_is_renewed_before_it_expires(
    azure: AzurePacsCredentials, clock: StandingClock
) -> None:
    assert azure.authorization() == "Bearer token-1"
    clock.time += timedelta(minutes=54)
    assert azure.authorization() == "Bearer token-1"
    clock.time += timedelta(minutes=1)
    assert azure.authorization() == "Bearer token-2"


def test_a_token_that_is_refused_is_renewed_once(
    pacs: StrictPacs, azure: AzurePacsCredentials, entra: Entra
) -> None:
    pacs.tokens = {"token-2"}
    archive = DicomWebArchive(service(pacs, azure))
    assert archive.instance(*UIDS) == dicom_file()
    assert [each.headers["authorization"] for each in pacs.seen] == [
        "Bearer token-1",
        "Bearer token-2",
    ]
    pacs.tokens = set()
    pacs.seen.clear()
    with pytest.raises(ArchiveUnreachable, match=r"refuses the credentials.*401") as failed:
        archive.instance(*UIDS)
    assert len(pacs.seen) == 2
    assert "token" not in str(failed.value)
    assert len(entra.asked) == 3


def test_a_delivery_survives_a_token_that_expired(
    pacs: StrictPacs, azure: AzurePacsCredentials
) -> None:
    pacs.tokens = {"token-2"}
    DicomWebDestination(service(pacs, azure)).deliver(
        result(), artefacts(report=dicom_file(2, size=1_000_000))
    )
    assert pacs.kept[f"{SERIES_UID}.2"].content == dicom_file(2, size=1_000_000)


@pytest.mark.parametrize(
    "fault",
    [
        ClientAuthenticationError("tenant 1234 refused client-secret"),
        CredentialUnavailableError("no client-secret found"),
    ],
)
def test_no_token_is_said_without_what_azure_says(
    pacs: StrictPacs, azure: AzurePacsCredentials, entra: Entra, fault: Exception
) -> None:
    entra.fails = fault
    given = service(pacs, azure)
    with pytest.raises(ArchiveUnreachable, match="Azure gives this server no token") as failed:
        DicomWebArchive(given).arrivals()
    assert "secret" not in str(failed.value)
    assert failed.value.__context__ is None
    with pytest.raises(DeliveryFailed, match="Azure gives this server no token"):
        DicomWebDestination(given).deliver(result(), artefacts(report=dicom_file(2)))
    assert pacs.seen == []
    entra.fails = None
    assert DicomWebArchive(given).arrivals()


@pytest.mark.parametrize(
    "url", ["https://x.dicom.azurehealthcareapis.com", "https://x/v1", "x/v20"]
)
def test_azure_is_asked_in_version_two(url: str, entra: Entra, clock: StandingClock) -> None:
    with pytest.raises(InvalidSettings, match="ends in /v2"):
        AzurePacsCredentials(url, clock=clock, credential=entra)


def test_the_machine_offers_credentials_without_being_asked_at_the_start(
    clock: StandingClock,
) -> None:
    assert AzurePacsCredentials("https://x.example.org/v2/", clock=clock)


def test_threads_fetch_one_token(azure: AzurePacsCredentials, entra: Entra) -> None:
    threads = [threading.Thread(target=azure.authorization) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entra.asked) == 1


# --- files


def test_user_and_password_are_sent_as_they_stand(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes("cds:pass:wörd \r\n".encode())
    scheme, _, value = BasicCredentials(secret).authorization().partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value).decode() == "cds:pass:wörd "


def test_a_new_token_in_the_file_counts_at_once(pacs: StrictPacs, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("token-1\n")
    archive = DicomWebArchive(service(pacs, BearerCredentials(secret)))
    assert archive.arrivals()
    pacs.tokens = {"token-2"}
    pacs.seen.clear()
    with pytest.raises(ArchiveUnreachable, match="401"):
        archive.arrivals()
    assert len(pacs.seen) == 1  # a refused secret is not shown twice: accounts get locked
    secret.write_text("token-2")
    assert archive.arrivals()


def test_a_token_that_changes_while_it_is_refused_is_tried(
    pacs: StrictPacs, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("old")
    archive = DicomWebArchive(service(pacs, BearerCredentials(secret)))
    pacs.before = lambda _: (secret.write_text("token-1"), None)[1]
    assert archive.arrivals()
    assert [each.headers["authorization"] for each in pacs.seen[:2]] == [
        "Bearer old",
        "Bearer token-1",
    ]


@pytest.mark.parametrize("kind", [BasicCredentials, BearerCredentials])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"user:the-secret\nX-Evil: 1",
        b"user:the-secret\r\nX: 1\r\n",
        b"user:the-secret\x00",
        b"\xff\xfe",
        b"x" * 70_000 + b"\x00",
    ],
)
def test_a_file_that_is_not_one_line_is_refused_at_the_start(
    tmp_path: Path, kind: type[BasicCredentials], content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidSettings, match=str(tmp_path / "file")) as failed:
        kind(tmp_path / "file")
    assert "the-secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (BasicCredentials, "the-secret"),
        (BasicCredentials, ":the-secret"),
        (BasicCredentials, "the-secret:"),
        (BearerCredentials, "the-secret and more"),
        (BearerCredentials, "the-secrét"),
        (BearerCredentials, "Bearer the-secret"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_at_the_start(
    tmp_path: Path, kind: type[BasicCredentials], content: str
) -> None:
    (tmp_path / "file").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidSettings, match="does not hold") as failed:
        kind(tmp_path / "file")
    assert "the-secr" not in str(failed.value)


@pytest.mark.parametrize("kind", [BasicCredentials, BearerCredentials])
def test_a_file_that_goes_away_is_no_empty_archive(
    pacs: StrictPacs, tmp_path: Path, kind: type[BasicCredentials]
) -> None:
    with pytest.raises(InvalidSettings, match=r"cannot be read .No such file"):
        kind(tmp_path / "file")
    (tmp_path / "file").write_text("a:b" if kind is BasicCredentials else "ab")
    archive = DicomWebArchive(service(pacs, kind(tmp_path / "file")))
    (tmp_path / "file").unlink()
    with pytest.raises(ArchiveUnreachable, match=r"cannot be read .No such file"):
        archive.arrivals()
    assert pacs.seen == []


# --- none


def test_without_credentials_none_are_sent(pacs: StrictPacs) -> None:
    archive = DicomWebArchive(service(pacs, None))
    with pytest.raises(ArchiveUnreachable, match="401"):
        archive.arrivals()
    pacs.faults.append(answers(401, WWW_Authenticate='Basic realm="x"'))
    with pytest.raises(ArchiveUnreachable, match="401"):
        archive.instance(*UIDS)
    assert len(pacs.seen) == 2
    assert all("authorization" not in each.headers for each in pacs.seen)
