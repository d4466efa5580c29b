"""Write the DICOM conformance statement and the rules of the AIR check, from the code itself.

``python -m scripts.dicom_conformance [--check]``. With ``--check`` nothing is written; the exit
code is 1 where a file differs.
"""

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, UID_dictionary

from cds_server.adapters import dicomweb_service, opened_instance, pacs_link
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.pacs_link import PacsLink, Question
from cds_server.adapters.system_clock import SystemClock
from cds_server.adapters.ups_rs import UpsRs
from cds_server.errors import CdsServerError
from cds_server.outbound import Answer
from fhir_mappers import codes, dicom_header, patient_and_study, workitem
from fhir_mappers.air.rules import rules_page
from fhir_mappers.dicom_header import Part
from fhir_mappers.dicom_sr import REPORT
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.key_object import KEY_OBJECT
from fhir_mappers.pixels import check_decodable
from fhir_mappers.presentation_state import PRESENTATION_STATE
from fhir_mappers.root_result import ROOT_RESULT
from fhir_mappers.saliency_segmentation import SALIENCY
from fhir_mappers.secondary_capture import SECONDARY_CAPTURE
from fhir_mappers.workitem import State, Wanted
from fhir_mappers.workitem_changes import progress
from scripts.made_pages import ROOT, write_or_compare

STATEMENT = Path("docs/conformance/dicom.md")
RULES = Path("docs/reference/air-rules.md")
PARTS: tuple[Part, ...] = (
    SECONDARY_CAPTURE,
    PRESENTATION_STATE,
    SALIENCY,
    REPORT,
    KEY_OBJECT,
    ROOT_RESULT,
)
EVERYWHERE = frozenset({REPORT.name, ROOT_RESULT.name})
"""Written of every study; the others only of an analysed one, where a site shows overlays."""

_COMMAND = "python -m scripts.dicom_conformance"
_BASE = "https://pacs.example.org/dicom-web"
_STUDY, _SERIES, _INSTANCE, _WORKITEM, _CLAIM = (f"2.25.{number}" for number in range(10, 15))
_NAMES = {
    _STUDY: "{study}",
    _SERIES: "{series}",
    _INSTANCE: "{instance}",
    _WORKITEM: "{workitem}",
    _CLAIM: "{transaction}",
    "20261101": "{date}",
    "STATION": "{station}",
}
_PROCEDURES = (codes.CHEST_ONE_VIEW, codes.CHEST_TWO_VIEWS, codes.IMAGING_STUDY_REPORT)
_MB = 1024 * 1024
_SYNTAX_OF_PIXELS = "Transfer Syntax"
_NOT_FOR_IMAGES = ("RFC 2557", "XML Encoding", "JPIP", "SMPTE", "Papyrus")


def documents() -> Mapping[Path, str]:
    """Give every file that is made, by its path below the repository."""
    return {STATEMENT: statement(), RULES: rules_page()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or compare them; gives the exit code."""
    return write_or_compare(
        documents,
        root=ROOT,
        command=_COMMAND,
        what="Write what radcds keeps of DICOM.",
        arguments=arguments,
    )


def statement() -> str:
    """Give the conformance statement as Markdown."""
    lines = [
        "# DICOM conformance statement",
        "",
        "<!-- Made by scripts/dicom_conformance.py; do not edit. -->",
        "",
        *_filled(
            "radcds fetches images by DICOMweb, or reads them from files, has a model read them, "
            "and stores what it says as DICOM objects in the studies of the images. It is for "
            "research and evaluation; it is not a medical device. The tables are read from the "
            "code: requests are recorded, transfer syntaxes are tried."
        ),
        *_implementation(),
        *_network(),
        *_objects(),
        *_transfer_syntaxes(),
        *_character_sets(),
        *_attributes(),
        *_codes(),
        *_security(),
        *_not_supported(),
    ]
    return "\n".join([*lines, ""])


# ── Sections ─────────────────────────────────────────────────────────────────────────────────────


def _implementation() -> Iterator[str]:
    yield from _titled("Implementation")
    yield "| | |"
    yield "|---|---|"
    yield f"| Implementation Class UID (0002,0012) | `{dicom_header.IMPLEMENTATION_CLASS_UID}` |"
    yield f"| Implementation Version Name (0002,0013) | `{dicom_header.IMPLEMENTATION_VERSION}` |"
    yield f"| Manufacturer (0008,0070) | `{dicom_header.MANUFACTURER}` |"
    yield "| Manufacturer's Model Name (0008,1090) | name of the model |"
    yield "| Software Versions (0018,1020) | version of radcds, version of the model |"
    yield "| Device Serial Number (0018,1000) | SHA-256 of the model |"
    yield "| Device UID (0018,1002), contributing | derived from it: another for each model |"


def _network() -> Iterator[str]:
    yield from _titled("Network")
    yield from _filled(
        "DICOMweb (PS3.18), as a user agent. There is no DIMSE. Below the base address of each "
        "service, with `Accept-Encoding: identity`; what stands in braces is replaced."
    )
    for title, requests in (
        ("The PACS", pacs_requests()),
        ("The worklist, as performer (UPS-RS)", worklist_requests()),
    ):
        yield from ("", f"### {title}", "", "| for | request | Accept | Content-Type |")
        yield "|---|---|---|---|"
        for purpose, question in requests:
            yield f"| {purpose} | {_request(question)} | {_headers(question)} |"
    yield ""
    yield from _bullets(
        f"A search asks for pages of {dicomweb_service.PAGE} until nothing new comes. A PACS may "
        "give fewer, or ignore a matching key.",
        "An instance is retrieved alone, in the transfer syntax in which it is stored, and only "
        "where the model or a viewer needs it. `application/dicom` without `multipart/related` is "
        "taken too.",
        "STOW-RS: one object a request, each after those that it refers to. It counts as stored "
        "when the response names its SOP Instance UID and a search, or a retrieval, finds it. What "
        "is there already is not sent again, but compared; another object under the same UID is an "
        "error.",
        "Redirects are not followed, and no address in an answer (Retrieve URL, BulkDataURI) is "
        "ever asked.",
        "Studies are noticed by polling, or by `POST /pacs/events`: see "
        "[connect a PACS](../how-to/connect-a-pacs.md).",
        "A workitem is claimed under a Transaction UID that is the same after a restart; it is "
        "updated with progress, and completed with Output Information Sequence (0040,4033), or "
        "canceled with a reason of CID 9300. Cancel requests and event channels are not served.",
    )


def _objects() -> Iterator[str]:
    yield from _titled("Objects written")
    yield from _filled(
        "Each kind stands in a series of its own, in the study of the images, in Explicit VR "
        "Little Endian. The set follows IHE AI Results (AIR): `radcds air check` finds "
        "[no fault](../reference/air-rules.md) with it."
    )
    yield from ("", "| SOP class | UID | modality | series | of |", "|---|---|---|---|---|")
    for part in PARTS:
        of = "every study" if part.name in EVERYWHERE else "analysed studies, overlay sites"
        yield (
            f"| {part.sop_class_uid.name} | `{part.sop_class_uid}` | {part.modality} | "
            f"{part.series_number} {part.series_description} | {of} |"
        )
    yield ""
    yield from _bullets(
        "`triage_only` sites get no object that has a location.",
        "A study that was not analysed has a report that says so: status (111245, DCM) and a "
        "coded reason. It never looks like a study without findings.",
        "Verification Flag is `UNVERIFIED`. What was drawn into pixels has Burned In Annotation "
        "`YES`.",
        "UIDs are of the root 2.25, derived (UUIDv5) from study, model and content: the same "
        "result has the same bytes under the same UIDs, and changed content has others.",
    )


def _transfer_syntaxes() -> Iterator[str]:
    yield from _titled("Transfer syntaxes")
    yield from _filled(
        "Of images that are read. A declined image is not analysed, with this reason; it is never "
        "called normal. Private syntaxes are declined. The frame's own header must give the size "
        "that the DICOM header gives."
    )
    yield from ("", "| transfer syntax | UID | |", "|---|---|---|")
    for syntax in image_syntaxes():
        yield f"| {syntax.name} | `{syntax}` | {fate(syntax)} |"


def _character_sets() -> Iterator[str]:
    yield from _titled("Character sets")
    single = [name for name in python_encoding if name.startswith(("ISO_IR ", "GB"))]
    extended = [name for name in python_encoding if name.startswith("ISO 2022 IR ")]
    yield from _bullets(
        f"Read, without code extensions: {_listed(single)}.",
        f"Read, with code extensions: {_listed(extended)}.",
        "Written: the set of the images, where it holds every text that is copied; else "
        "`ISO_IR 192` (UTF-8). What radcds says itself is ASCII.",
    )


def _attributes() -> Iterator[str]:
    yield from _titled("Attributes copied")
    yield from _filled(
        "Verbatim from the images into every object. Those of type 2 are there even when the "
        "images lack them, empty. Timezone Offset From UTC is copied where it is a valid one."
    )
    yield from ("", "| tag | attribute | |", "|---|---|---|")
    for keyword in patient_and_study._PATIENT_AND_STUDY:  # noqa: SLF001 - what is published here
        tag = Tag(tag_for_keyword(keyword) or 0)
        always = "always" if keyword in patient_and_study._NEVER_ABSENT else ""  # noqa: SLF001
        yield f"| ({tag.group:04X},{tag.element:04X}) | {dictionary_description(tag)} | {always} |"


def _codes() -> Iterator[str]:
    yield from _titled("Codes")
    yield from _filled(
        "Of results and workitems, beside those that the templates have: TID 1500 (Measurement "
        "Report) with 1204, 1001, 1410, 1501 and 4019, and TID 2010 (Key Object Selection). Beside "
        "DCM, SCT, LN and UCUM, Coding Scheme Identification Sequence (0008,0110) says what a "
        "scheme is."
    )
    yield from ("", "| scheme | name | UID |", "|---|---|---|")
    for scheme in codes.SCHEMES.values():
        keeper = f"{scheme.name} ({scheme.organisation})"
        yield f"| {scheme.designator} | {keeper} | {scheme.oid or '—'} |"
    yield from ("", "| code | scheme | meaning |", "|---|---|---|")
    for value, scheme_designator, meaning in written_codes():
        yield f"| {value} | {scheme_designator} | {meaning} |"


def _security() -> Iterator[str]:
    yield from _titled("Security")
    inflated = opened_instance._MOST_INFLATED_BYTES // _MB  # noqa: SLF001 - what is published here
    slowest = pacs_link.SLOWEST_BYTES_PER_S // 1024
    yield from _bullets(
        "TLS certificates are verified. Credentials (Basic, a bearer token, or Azure) are sent "
        "over `https` or on the same machine, to the one address that is set, and to no other.",
        "An answer is bounded in size and in time: a PACS that is slower than "
        f"{slowest} KiB a second is cut off. A compressed answer is refused.",
        "Each image is opened in a process of its own, without network and files, bounded in "
        f"memory and time. A deflated file is inflated up to {inflated} MiB.",
        "Before an image of a patient is fetched, the access is in the audit trail; no identity "
        "reaches the model.",
        "Every attribute of patient and study in the results comes from the images. There is no "
        "de-identification, and none of the profiles of PS3.15.",
    )


def _not_supported() -> Iterator[str]:
    yield from _titled("Not supported")
    yield from _bullets(
        "DIMSE: storage, query and retrieve, MPPS, storage commitment.",
        "DICOMweb as an origin server; delete; rendered and thumbnail resources, frames and bulk "
        "data.",
        "Media: DICOMDIR is passed by.",
        "Digital signatures and encrypted attributes.",
    )


# ── What the code says of itself ─────────────────────────────────────────────────────────────────


def pacs_requests() -> Sequence[tuple[str, Question]]:
    """Record what is asked of a PACS, with the purpose of each request."""
    asked: list[Question] = []

    def answer(_: PacsLink, question: Question, *, largest_bytes: int) -> Answer:  # noqa: ARG001
        asked.append(question)
        return Answer(200, {"content-type": "application/dicom+json"}, b"[]")

    pacs = DicomWebService(_BASE, clock=SystemClock())
    instance = (_STUDY, _SERIES, _INSTANCE)
    asking = {
        "QIDO-RS, studies: what is there": lambda: pacs.studies(offset=0, since=date(2026, 11, 1)),
        "QIDO-RS, studies: is it there": lambda: pacs.lists_study(_STUDY),
        "QIDO-RS, instances: was it stored": lambda: pacs.lists_instance(*instance),
        "WADO-RS, metadata of a study": lambda: pacs.metadata(_STUDY),
        "WADO-RS, metadata of an instance": lambda: pacs.instance_metadata(*instance),
        "WADO-RS, instance": lambda: pacs.instance(*instance),
        "STOW-RS": lambda: pacs.store(_STUDY, b"DICM"),
    }
    recorded = []
    with patch.object(PacsLink, "exchange", answer):
        for purpose, ask in asking.items():
            asked.clear()
            with suppress(CdsServerError, ValueError):  # an answer to everything answers nothing
                ask()
            recorded.append((purpose, asked[0]))
    return recorded


class _Recorder:
    """Takes requests to a worklist, and answers each with one empty workitem."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def send(self, method: str, url: str, content: bytes, *, headers: Mapping[str, str]) -> Answer:
        """Take a request."""
        self.asked.append(Question(method, url, headers, content))
        return Answer(200, {}, b"[{}]")


def worklist_requests() -> Sequence[tuple[str, Question]]:
    """Record what is asked of a worklist."""
    recorder = _Recorder()
    worklist = UpsRs(_BASE, http=recorder)
    wanted = Wanted(station=Code("STATION", "L", "Station"))
    asking = {
        "Search (RAD-81)": lambda: worklist.search(State.SCHEDULED, wanted),
        "Retrieve (RAD-83)": lambda: worklist.workitem(_WORKITEM),
        "Change state: claim, complete, cancel (RAD-82, RAD-85)": lambda: worklist.change_state(
            _WORKITEM, State.IN_PROGRESS, _CLAIM
        ),
        "Update (RAD-84)": lambda: worklist.update(
            _WORKITEM, progress(workitem.Stage.READING), _CLAIM
        ),
    }
    recorded = []
    for purpose, ask in asking.items():
        recorder.asked.clear()
        ask()
        recorded.append((purpose, recorder.asked[0]))
    return recorded


def image_syntaxes() -> Sequence[UID]:
    """Give the transfer syntaxes that images can be in; what is retired or carries none is not."""
    return [
        UID(uid)
        for uid, (name, kind, _, retired, _keyword) in sorted(
            UID_dictionary.items(), key=_by_number
        )
        if kind == _SYNTAX_OF_PIXELS and not retired and not name.startswith(_NOT_FOR_IMAGES)
    ]


def fate(syntax: UID) -> str:
    """Say whether an image in a transfer syntax is decoded, or why it is declined."""
    image = Dataset()
    image.Rows = image.Columns = 8
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelRepresentation = 0
    image.add_new("PixelData", "OB", bytes(64))
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    try:
        check_decodable(image)
    except ImageDeclined as declined:
        return f"declined: `{declined.outcome.reason}`"
    if syntax == DeflatedExplicitVRLittleEndian:
        size = opened_instance._MOST_INFLATED_BYTES // _MB  # noqa: SLF001 - what is published here
        return f"decoded, up to {size} MiB inflated"
    return "decoded"


def written_codes() -> Sequence[codes.Coded]:
    """Give every code that objects and workitems are written with, each once, by scheme."""
    known = list(vars(codes).values())
    named = [value for value in known if _is_code(value)]
    procedures = [(value, "LN", says) for value, says in _PROCEDURES]
    triage = [each for each in known if isinstance(each, codes.TriageCode)]
    outcomes = [(each.code, codes.LOCAL_SCHEME, each.display) for each in triage]
    categories = [(each.acr[0], "RADLEX", each.acr[1]) for each in triage if each.acr]
    reasons = [(each.value, codes.LOCAL_SCHEME, says) for each, says in codes.REASONS.items()]
    findings = [codes.dicom_finding(label) for label in codes.FINDINGS]
    discontinued = [
        (each.value, each.scheme_designator, each.meaning)
        for each in vars(workitem).values()
        if isinstance(each, Code)
    ]
    said = {*named, *codes.RESULT_PARTS.values(), *reasons, *findings, *procedures, *outcomes}
    return sorted(
        said | {*categories, *discontinued},
        key=lambda code: (code[1] == codes.LOCAL_SCHEME, code[1], code[0]),
    )


def _is_code(value: object) -> bool:
    three = 3
    return (
        isinstance(value, tuple) and len(value) == three and all(isinstance(v, str) for v in value)
    )


def _by_number(entry: tuple[str, object]) -> list[int]:
    return [int(part) for part in entry[0].split(".")]


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def _request(question: Question) -> str:
    split = urlsplit(question.url.removeprefix(_BASE))
    return f"`{question.method} {_named(split.path)}`{_query(split.query)}"


def _listed(names: Sequence[str]) -> str:
    numbered = sorted(names, key=lambda name: (len(name), name))
    return ", ".join(f"`{name}`".replace(" ", "\N{NO-BREAK SPACE}") for name in numbered)


def _query(query: str) -> str:
    """Give what is asked, then which attributes, then which page; each in alphabetical order."""
    order = {"includefield": 1, "limit": 2, "offset": 3}
    asked = sorted(
        (each for each in query.split("&") if each),
        key=lambda each: (order.get(each.partition("=")[0], 0), each),
    )
    parts = [f"`{_named(unquote(each))}`" for each in asked]
    return f"<br>{' '.join(parts)}" if parts else ""


def _named(value: str) -> str:
    for uid, name in _NAMES.items():
        value = value.replace(uid, name)
    return value


def _headers(question: Question) -> str:
    content_type = question.headers.get("Content-Type", "").partition("; boundary")[0]
    named = (question.headers.get("Accept", ""), content_type)
    return " | ".join(f"`{each}`" if each else "—" for each in named)


def _titled(title: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_on_hyphens=False, break_long_words=False)


def _bullets(*texts: str) -> Iterator[str]:
    for each in texts:
        yield from textwrap.wrap(
            each,
            100,
            initial_indent="- ",
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )


if __name__ == "__main__":
    sys.exit(main())
