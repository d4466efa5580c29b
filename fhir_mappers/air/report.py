"""What AIR and DICOM ask of a structured report as a document."""

from collections.abc import Iterator

from fhir_mappers.air.access import items, shown, text
from fhir_mappers.air.kinds import AIR_REPORTS, Kind
from fhir_mappers.air.objects import AirObject, ResultSet
from fhir_mappers.air.references import Place
from fhir_mappers.air.rule import Rule, error, warning

_AIR = "IHE RAD AIR 6.5.3"
_REPORT = frozenset({Kind.REPORT})
_DOCUMENT = frozenset({Kind.REPORT, Kind.KEY_OBJECT})
_TITLES = ("126000", "126001", "126002", "126003")
_SUMMARY = ("111241", "111242", "111243", "111244", "111245")
_NOTHING_SUCCEEDED = "111245"
_STATUS = ("111222", "111223", "111224", "111225")


def _report_class(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if checked.uid("SOPClassUID") not in AIR_REPORTS:
        yield "the SOP Class is no Comprehensive 3D, Comprehensive or Enhanced SR"


def _title(checked: AirObject, _: ResultSet) -> Iterator[str]:
    root = checked.nodes[0]
    if root.value_type != "CONTAINER":
        yield f"the root is {shown(root.value_type) or 'nothing'}, not a CONTAINER"
    if not root.name.is_dcm(*_TITLES):
        yield f"the root is named ({shown(root.name.value)}, {shown(root.name.scheme)})"


def _template(checked: AirObject, _: ResultSet) -> Iterator[str]:
    (template, *_rest) = (*items(checked.dataset, "ContentTemplateSequence"), checked.dataset)
    named = (text(template, "MappingResource"), text(template, "TemplateIdentifier"))
    if named != ("DCMR", "1500"):
        yield "ContentTemplateSequence (0040,A504) of the root does not name 1500 of DCMR"


def _procedure(checked: AirObject, _: ResultSet) -> Iterator[str]:
    found = [each for each in checked.nodes[0].named("121058") if each.value_type == "CODE"]
    if not any(each.value.whole for each in found):
        yield "the root has no coded Procedure Reported (121058, DCM)"


def _procedure_is_algorithm(checked: AirObject, _: ResultSet) -> Iterator[str]:
    named = {text(each, "ManufacturerModelName") for each in checked.algorithms}
    named |= {text(each.item, "TextValue") for each in checked.nodes if each.is_named("111001")}
    ours = {each.casefold() for each in named if each}
    for each in checked.nodes[0].named("121058"):
        if each.value.meaning.casefold() in ours or each.value.value.casefold() in ours:
            yield f"content item {each.path} gives the name of the algorithm as the procedure"


def _observer(checked: AirObject, _: ResultSet) -> Iterator[str]:
    root = checked.nodes[0]
    if not any(text(each.item, "UID") for each in root.named("121012")):
        yield "the root has no Device Observer UID (121012, DCM)"


def _flags(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if text(checked.dataset, "CompletionFlag") not in {"PARTIAL", "COMPLETE"}:
        yield "CompletionFlag (0040,A491) is neither PARTIAL nor COMPLETE"
    if text(checked.dataset, "VerificationFlag") not in {"UNVERIFIED", "VERIFIED"}:
        yield "VerificationFlag (0040,A493) is neither UNVERIFIED nor VERIFIED"


def _verification(checked: AirObject, _: ResultSet) -> Iterator[str]:
    verified = text(checked.dataset, "VerificationFlag") == "VERIFIED"
    observers = items(checked.dataset, "VerifyingObserverSequence")
    if verified and not observers:
        yield "it is VERIFIED, and VerifyingObserverSequence (0040,A073) names nobody"
    if observers and not verified:
        yield "VerifyingObserverSequence (0040,A073) names somebody, and it is not VERIFIED"
    if verified and text(checked.dataset, "CompletionFlag") == "PARTIAL":
        yield "it is VERIFIED and PARTIAL at once"


def _status(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in checked.nodes:
        if each.is_named("111017") and not each.value.is_dcm(*_SUMMARY):
            yield f"content item {each.path} has no code of CID 6047"
        if each.is_named("111064", "111065") and not each.value.is_dcm(*_STATUS):
            yield f"content item {each.path} has no code of CID 6042"


def _evidence(checked: AirObject, _: ResultSet) -> Iterator[str]:
    missing = checked.named_at[Place.TREE] - checked.named_at[Place.EVIDENCE]
    for uid in sorted(missing):
        yield f"instance {shown(uid)} is in the content tree and in no evidence sequence"


def _refers(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if any(each.value.is_dcm(_NOTHING_SUCCEEDED) for each in checked.nodes):
        return
    if not checked.named_at[Place.EVIDENCE]:
        yield "no evidence sequence names an instance: nothing says what was analysed"
    elif not checked.named_at[Place.TREE]:
        yield "no content item refers to an instance"


REPORT_RULES: tuple[Rule, ...] = (
    error(
        "report-class",
        _REPORT,
        "A report is a Comprehensive 3D SR, or a Comprehensive or Enhanced SR, which are subsets.",
        f"{_AIR}, Table 6.5.3-1",
        _report_class,
    ),
    error(
        "report-title",
        _REPORT,
        "The root is a container named Imaging Measurement Report (126000, DCM), or by another "
        "title of CID 7021.",
        f"{_AIR}, Table 6.5.3-1; PS3.16 TID 1500, CID 7021",
        _title,
    ),
    error(
        "report-template",
        _REPORT,
        "The root names its template: TID 1500 of DCMR.",
        f"{_AIR}, Table 6.5.3-1; PS3.3 C.18.8",
        _template,
    ),
    error(
        "procedure-reported",
        _REPORT,
        "The root has a coded Procedure Reported (121058, DCM).",
        "PS3.16 TID 1500",
        _procedure,
    ),
    error(
        "procedure-algorithm",
        _REPORT,
        "The procedure that is reported is the imaging procedure, not the algorithm.",
        _AIR,
        _procedure_is_algorithm,
    ),
    warning(
        "observer",
        _REPORT,
        "The report says which device observed: Device Observer UID (121012, DCM).",
        "believed: PS3.16 TID 1001, 1002, 1004, unless the context is inherited",
        _observer,
    ),
    error(
        "flags",
        _REPORT,
        "Completion Flag and Verification Flag have one of their values.",
        "PS3.3 C.17.2",
        _flags,
    ),
    error(
        "verification",
        _REPORT,
        "A report is verified by somebody who is named, when it is complete, or not at all.",
        "PS3.3 C.17.2",
        _verification,
    ),
    error(
        "run-status",
        _REPORT,
        "A status of the whole run, or of its detections or analyses, is a code of its context "
        "group.",
        "PS3.16 CID 6047, CID 6042",
        _status,
    ),
    error(
        "evidence",
        _DOCUMENT,
        "An evidence sequence names every instance that the content tree refers to.",
        "PS3.3 C.17.2.3",
        _evidence,
    ),
    warning(
        "evidence-absent",
        _DOCUMENT,
        "The report refers to instances, those that were analysed or their results, unless it says "
        "that no algorithm succeeded (111245, DCM).",
        "believed: PS3.3 C.17.2.3 asks for all evidence, AIR for display with the images",
        _refers,
    ),
)
