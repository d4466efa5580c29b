"""The network file: whom the server trusts. What is misspelt or unsafe keeps it from starting."""

import re
from pathlib import Path

import pytest

from cds_server.errors import InvalidSettings
from cds_server.network import (
    CdsClient,
    Centre,
    Ehr,
    Network,
    Role,
    SmartRegistration,
    SystemActions,
    TokenIssuer,
)
from cds_server.network_file import read_network

WHOLE = """
[[centre]]
id = "north"
name = "North Hospital"
institutions = ["NORTH HOSPITAL", "North Annex"]

[[centre]]
id = "south"
name = "South Hospital"

[[ehr]]
name = "North EHR"
fhir_base_url = "https://ehr.example.org/fhir/"
centres = ["north"]
frame_ancestors = ["https://ehr.example.org", "https://portal.example.org:8443"]
cors_origins = ["https://ehr.example.org"]
system_actions = "ServiceRequest"

[ehr.patient_systems]
"urn:oid:2.999.7" = "Example Trust"

[ehr.cds]
issuer = "https://ehr.example.org"
jwks_url = "https://ehr.example.org/jwks.json"
audience = "sand_man"
tenants = ["north"]

[ehr.smart]
client_id = "radcds"
algorithm = "RS384"
default_role = ""
backend_scopes = ["system/Patient.r"]
roles = { "Practitioner/77" = "radiologist", "Practitioner/78" = "auditor" }

[[ehr]]
name = "South EHR"
fhir_base_url = "http://127.0.0.1:8090/fhir"
smart = { client_id = "radcds" }

[[token_issuer]]
issuer = "https://login.example.org"
audience = "https://radcds.example.org/fhir"
jwks_url = "https://login.example.org/jwks.json"
token_endpoint = "https://login.example.org/token"
centres = ["south"]

[[token_issuer]]
issuer = "https://opaque.example.org"
audience = "https://radcds.example.org/fhir"
introspection_url = "https://opaque.example.org/introspect"
client_id = "radcds"
"""
EXPECTED = Network(
    centres=(
        Centre("north", "North Hospital", frozenset({"NORTH HOSPITAL", "North Annex"})),
        Centre("south", "South Hospital"),
    ),
    ehrs=(
        Ehr(
            name="North EHR",
            fhir_base_url="https://ehr.example.org/fhir",
            centres=frozenset({"north"}),
            cds=CdsClient(
                issuer="https://ehr.example.org",
                jwks_url="https://ehr.example.org/jwks.json",
                audience="sand_man",
                tenants=frozenset({"north"}),
            ),
            smart=SmartRegistration(
                client_id="radcds",
                algorithm="RS384",
                roles={"Practitioner/77": Role.RADIOLOGIST, "Practitioner/78": Role.AUDITOR},
                default_role=None,
                backend_scopes=("system/Patient.r",),
            ),
            patient_systems={"urn:oid:2.999.7": "Example Trust"},
            frame_ancestors=("https://ehr.example.org", "https://portal.example.org:8443"),
            cors_origins=("https://ehr.example.org",),
            system_actions=SystemActions.SERVICE_REQUEST,
        ),
        Ehr(
            name="South EHR",
            fhir_base_url="http://127.0.0.1:8090/fhir",
            smart=SmartRegistration("radcds", "ES384", {}, Role.CLINICIAN, ()),
        ),
    ),
    token_issuers=(
        TokenIssuer(
            issuer="https://login.example.org",
            audience="https://radcds.example.org/fhir",
            jwks_url="https://login.example.org/jwks.json",
            token_endpoint="https://login.example.org/token",  # noqa: S106 - an address
            centres=frozenset({"south"}),
        ),
        TokenIssuer(
            issuer="https://opaque.example.org",
            audience="https://radcds.example.org/fhir",
            introspection_url="https://opaque.example.org/introspect",
            client_id="radcds",
        ),
    ),
)
EHR = '[[ehr]]\nname = "E"\nfhir_base_url = "https://e/fhir"\n'
CENTRE = '[[centre]]\nid = "north"\nname = "North"\n'
SOUTH = CENTRE.replace("north", "south")
ISSUER = '[[token_issuer]]\nissuer = "https://i"\naudience = "a"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "network.toml"


def refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidSettings) as error:
        read_network(file)
    says = str(error.value)
    assert says.startswith("network: ")
    assert str(file) in says
    return says


def test_a_whole_file_is_the_network_that_it_says(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    assert read_network(file) == EXPECTED


def test_what_is_not_said_trusts_nobody(file: Path) -> None:
    file.write_text("", encoding="utf-8")
    assert read_network(file) == Network()
    file.write_text(EHR, encoding="utf-8")
    (ehr,) = read_network(file).ehrs
    assert (ehr.cds, ehr.smart) == (None, None)
    assert (ehr.frame_ancestors, ehr.cors_origins) == ((), ())
    assert ehr.system_actions is SystemActions.NONE


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"network\.toml cannot be read"):
        read_network(file)
    with pytest.raises(InvalidSettings, match="cannot be read"):
        read_network(file.parent)
    for content in ("[[centre", "a = 1\na = 2", "{}", b'name = "\xff"', b"\xef\xbb\xbf\x00"):
        assert "cannot be read as TOML" in refusal(file, content)


@pytest.mark.parametrize(
    ("content", "where", "key"),
    [
        ('[[centres]]\nid = "n"\n', "the file", "centres"),
        ("trusted = true\n", "the file", "trusted"),
        (f"{CENTRE}institution = ['N']\n", "centre", "institution"),
        (f"{EHR}frame_ancestor = []\n", "ehr", "frame_ancestor"),
        (f"{EHR}centre = ['north']\n", "ehr", "centre"),
        (f"{EHR}cds = {{ issuer = 'i', jwks_url = 'https://j', tenant = 't' }}\n", "cds", "tenant"),
        (f"{EHR}smart = {{ client_id = 'c', client_secret = 's' }}\n", "smart", "client_secret"),
        (f"{ISSUER}jwks_url = 'https://j'\nscopes = []\n", "tokenissuer", "scopes"),
    ],
)
def test_an_unknown_key_is_refused_so_that_no_safeguard_is_misspelt(
    file: Path, content: str, where: str, key: str
) -> None:
    says = refusal(file, content)
    assert f"unknown key '{key}'" in says
    assert where in says
    assert "the keys are" in says


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("[[centre]]\nid = 'n'\n", "name"),
        ("[[centre]]\nname = 'N'\n", "id"),
        ("[[ehr]]\nfhir_base_url = 'https://e/fhir'\n", "name"),
        ("[[ehr]]\nname = 'E'\n", "ehr E: ''"),
        (f"{EHR}cds = {{ jwks_url = 'https://j' }}\n", "issuer"),
        (f"{EHR}cds = {{ issuer = 'i' }}\n", "ehr E: cds"),
        (f"{EHR}smart = {{}}\n", "client_id"),
        ("[[token_issuer]]\nissuer = 'https://i'\njwks_url = 'https://j'\n", "audience"),
        ("[[token_issuer]]\naudience = 'a'\njwks_url = 'https://j'\n", "issuer"),
        (ISSUER, "give jwks_url or introspection_url"),
    ],
)
def test_what_is_missing_is_named(file: Path, content: str, key: str) -> None:
    assert key in refusal(file, content)


UNSAFE = [
    "http://ehr.example.org/x",
    "http://10.0.0.1/x",
    "http://127.0.0.1.example.org/x",
    "http://localhost.example.org/x",
    "ftp://ehr.example.org/x",
    "file:///etc/passwd",
    "ehr.example.org/x",
    "//ehr.example.org/x",
    "https://",
    "https:///x",
    "https://user:password@ehr.example.org/x",
    "https://ehr.example.org:99999/x",
    "https://ehr.example.org:port/x",
    "https://[::1/x",
]
PLACES = [
    '[[ehr]]\nname = "E"\nfhir_base_url = "{}"\n',
    EHR + 'cds = {{ issuer = "i", jwks_url = "{}" }}\n',
    ISSUER + 'jwks_url = "{}"\n',
    ISSUER + 'introspection_url = "{}"\n',
    ISSUER + 'jwks_url = "https://j"\ntoken_endpoint = "{}"\n',
    EHR + 'frame_ancestors = ["{}"]\n',
    EHR + 'cors_origins = ["{}"]\n',
]


@pytest.mark.parametrize("place", PLACES)
def test_no_address_travels_in_clear_text_or_with_a_password(file: Path, place: str) -> None:
    for address in UNSAFE:
        says = refusal(file, place.format(address))
        assert re.search("must be https|not an http or https address|[Pp]ort|IPv6", says)


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost", "[::1]:1"])
@pytest.mark.parametrize("place", PLACES[:5])
def test_on_this_machine_clear_text_is_let_be(file: Path, place: str, host: str) -> None:
    file.write_text(place.format(f"http://{host}/x"), encoding="utf-8")
    assert read_network(file) != Network()


@pytest.mark.parametrize("key", ["frame_ancestors", "cors_origins"])
@pytest.mark.parametrize("path", ["/", "/ehr", "//"])
def test_an_origin_has_no_path(file: Path, key: str, path: str) -> None:
    says = refusal(file, f'{EHR}{key} = ["https://ehr.example.org{path}"]\n')
    assert "is no origin" in says


@pytest.mark.parametrize(
    "line",
    [
        'frame_ancestors = ["https://ehr.example.org?x"]',
        'frame_ancestors = ["https://ehr.example.org#x"]',
        'frame_ancestors = ["https://ehr.example.org; script-src *"]',
        'smart = { client_id = "radcds", backend_scopes = "system/Patient.r" }',
        'cds = { issuer = "https://e", jwks_url = "https://e/j", tenants = "north" }',
    ],
)
def test_what_would_not_work_as_written_is_refused(file: Path, line: str) -> None:
    assert refusal(file, f"{EHR}{line}\n")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (CENTRE * 2, "centre 'north'"),
        (EHR * 2, "fhir_base_url 'https://e/fhir'"),
        (EHR + EHR.replace("/fhir", "/fhir/"), "fhir_base_url 'https://e/fhir'"),
        (
            "".join(
                f'[[ehr]]\nname = "E"\nfhir_base_url = "https://e{number}"\n'
                'cds = { issuer = "https://same", jwks_url = "https://j" }\n'
                for number in range(2)
            ),
            "cds issuer 'https://same'",
        ),
        (
            f"{CENTRE}institutions = ['St. Mary']\n{SOUTH}institutions = ['ST. MARY']\n",
            "institution 'st. mary'",
        ),
        (f"{ISSUER}jwks_url = 'https://j'\n" * 2, "token_issuer 'https://i'"),
    ],
)
def test_nothing_is_listed_twice(file: Path, content: str, what: str) -> None:
    assert f"{what} is listed twice" in refusal(file, content)


def test_opaque_tokens_name_no_issuer_so_one_alone_may_give_them(file: Path) -> None:
    twice = "".join(
        f'[[token_issuer]]\nissuer = "https://i{number}"\naudience = "a"\n'
        'introspection_url = "https://i/introspect"\n'
        for number in range(2)
    )
    assert "at most one token_issuer" in refusal(file, twice)


@pytest.mark.parametrize(
    "content",
    [
        f'{EHR}centres = ["north"]\n',
        f'{CENTRE}{EHR}centres = ["north", "west"]\n',
        f'{CENTRE}{ISSUER}jwks_url = "https://j"\ncentres = ["North"]\n',
    ],
)
def test_nobody_is_trusted_with_a_centre_that_is_not_there(file: Path, content: str) -> None:
    assert "is trusted with, but not listed" in refusal(file, content)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('smart = { client_id = "c", roles = { "Practitioner/1" = "boss" } }', "boss"),
        ('smart = { client_id = "c", default_role = "everyone" }', "everyone"),
        ('smart = { client_id = "c", algorithm = "none" }', "ES384, RS384"),
        ('smart = { client_id = "c", algorithm = "HS256" }', "ES384, RS384"),
        ('system_actions = "Patient"', "Patient"),
        ('smart = "radcds"', "get"),
        ("frame_ancestors = 7", "list of texts"),
        ('centres = "north"', "list of texts"),
    ],
)
def test_what_is_no_such_value_is_refused(file: Path, line: str, says: str) -> None:
    assert says in refusal(file, f"{EHR}{line}\n")


def test_one_table_where_a_list_belongs_is_refused(file: Path) -> None:
    assert refusal(file, CENTRE.replace("[[centre]]", "[centre]"))


def test_an_institution_is_found_whatever_its_case_and_padding(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    network = read_network(file)
    assert network.centre_of(" north hospital ") == "north"
    assert network.centre_of("NORTH ANNEX") == "north"
    assert network.centre_of("North") == ""
    assert network.centre_of("") == ""
