"""The receivers of results, from their file: what is misspelt or unsafe stops the server."""

from pathlib import Path

import pytest
from studies import site as example_site

from cds_server.destinations_file import FhirAuth, FhirReceiver, Receivers, read_receivers
from cds_server.errors import InvalidSettings
from cds_server.mllp.endpoint import Listening
from fhir_mappers.fhir_rules.profiles import Profile
from fhir_mappers.hl7_dialect import AcknowledgementMode, CharacterSet, Hl7Version, PriorityField

RIS = '[[hl7]]\nname = "ris"\naddress = "127.0.0.1:2575"\n'
TRUST = '[[fhir]]\nname = "trust"\nurl = "https://fhir.example.org/r4"\n'


def read(folder: Path, text: str) -> Receivers:
    path = folder / "destinations.toml"
    path.write_text(text)
    return read_receivers(path, example_site())


def test_a_receiver_is_sent_what_the_site_sends_unless_it_says_otherwise(tmp_path: Path) -> None:
    (ris,) = read(tmp_path, RIS).hl7
    site = example_site()
    assert (ris.endpoint.host, ris.endpoint.port) == ("127.0.0.1", 2575)
    assert ris.dialect.sender == (site.hl7_application, site.hl7_facility)
    assert ris.dialect.receiver == site.hl7_receiver
    assert ris.dialect.version is Hl7Version.V2_5_1
    assert ris.dialect.acknowledgement is AcknowledgementMode.ORIGINAL
    assert ris.per_second is None


def test_everything_of_an_hl7_receiver_can_be_said(tmp_path: Path) -> None:
    (ris,) = read(
        tmp_path,
        f"""{RIS}
        version = "2.4"
        character_set = "8859/1"
        sender = ["AI", "NORTH"]
        receiver = ["RIS", "NORTH"]
        overlay_kb = 40
        link = true
        acknowledgement = "enhanced"
        priority = "OBR-5"
        timeout_s = 5
        per_second = 2.5
        """,
    ).hl7
    assert ris.dialect.version is Hl7Version.V2_4
    assert ris.dialect.character_set is CharacterSet.LATIN_1
    assert ris.dialect.sender == ("AI", "NORTH")
    assert ris.dialect.overlay_bytes == 40 * 1024
    assert ris.dialect.link
    assert ris.dialect.acknowledgement is AcknowledgementMode.ENHANCED
    assert ris.dialect.priority is PriorityField.OBR_5
    assert (ris.timeout_s, ris.per_second) == (5.0, 2.5)


def test_an_overlay_can_be_left_out(tmp_path: Path) -> None:
    (ris,) = read(tmp_path, f"{RIS}overlay_kb = 0\n").hl7
    assert ris.dialect.overlay_bytes == 0


def test_everything_of_a_fhir_server_can_be_said(tmp_path: Path) -> None:
    (trust,) = read(
        tmp_path,
        f"""{TRUST}
        auth = "smart"
        client_id = "radcds"
        token_url = "https://login.example.org/token"
        scopes = ["system/Observation.cu"]
        linked = ["Patient"]
        profiles = ["uk-core"]
        timeout_s = 9
        """,
    ).fhir
    assert trust == FhirReceiver(
        "trust",
        "https://fhir.example.org/r4",
        FhirAuth.SMART,
        None,
        "radcds",
        "https://login.example.org/token",
        ("system/Observation.cu",),
        frozenset({"Patient"}),
        (Profile.UK_CORE,),
        9.0,
    )


def test_files_are_looked_for_beside_the_file(tmp_path: Path) -> None:
    (trust,) = read(tmp_path, f'{TRUST}auth = "bearer"\ncredentials = "token"\n').fhir
    assert trust.credentials == tmp_path / "token"


def test_orders_come_in_where_the_file_says(tmp_path: Path) -> None:
    inbound = read(tmp_path, '[hl7_inbound]\naddress = "127.0.0.1:0"\n').inbound
    assert inbound == Listening("127.0.0.1", 0)
    assert read(tmp_path, "").inbound is None
    address = '[hl7_inbound]\naddress = "127.0.0.1:0"\n'
    assert not read(tmp_path, address).reports_sign
    assert read(tmp_path, f"{address}reports_sign = true\n").reports_sign


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{RIS}adress = 'x'\n", "hl7 ris: unknown key 'adress'; the keys are"),
        (f"{RIS}link = 'yes'\n", "link must be like False"),
        (f"{RIS}timeout_s = 0\n", "timeout_s must be above zero"),
        (f"{RIS}timeout_s = true\n", "timeout_s must be like 30.0"),
        (f"{RIS}version = '2.7'\n", "2.7"),
        (f"{RIS}receiver = ['RIS']\n", "receiver is a list of two texts"),
        (f"{RIS}receiver = [1, 2]\n", "receiver must be a list of texts"),
        (f"{RIS}{RIS}", "name 'ris' is used twice"),
        ('[[hl7]]\naddress = "127.0.0.1:1"\n', "name is missing"),
        ('[[hl7]]\nname = "ris"\naddress = "127.0.0.1"\n', "is no address; write one like"),
        ('[[hl7]]\nname = "ris"\naddress = "ris.example.org:2575"\n', "in the clear"),
        ('[[hl7]]\nname = "pacs"\naddress = "127.0.0.1:1"\n', "none of dicom, fhir, folder"),
        ('[[hl7]]\nname = "RIS 1"\naddress = "127.0.0.1:1"\n', "small letters, digits and hyphens"),
        (f"{RIS}tls = {{ ca = 'missing.pem' }}\n", "missing.pem"),
        (f"{RIS}tls = {{ cert = 'x' }}\n", "unknown key 'cert'"),
        ('[[fhir]]\nname = "trust"\nurl = "http://fhir.example.org"\n', "must be https"),
        (f'{TRUST}auth = "smart"\n', "smart needs a client_id"),
        (f'{TRUST}auth = "basic"\n', "basic needs the file of its credentials"),
        (f'{TRUST}auth = "magic"\n', "magic"),
        (f'{TRUST}linked = ["Patients"]\n', "Patients cannot be linked"),
        (f'{TRUST}profiles = ["uk core"]\n', "uk core"),
        ("[fhir]\nname = 'trust'\n", r"write \[\[fhir\]\]|must be like"),
        ("[hl7_inbound]\naddress = '0.0.0.0:2576'\n", "in the clear"),
        ("[hl7_outbound]\n", "unknown key 'hl7_outbound'; the keys are"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_what_is_misspelt_or_unsafe_is_refused_and_named(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InvalidSettings, match=says) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith("destinations: ")
