"""HL7 v2 messages for tests: ours in every dialect, and those of systems that do not exist."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from studies import ISSUED, OUTCOMES, chest_study, context

from ai_engine.result import TriageResult
from fhir_mappers.hl7_dialect import Hl7Dialect, Hl7Version
from fhir_mappers.oru_r01 import oru_r01, recalled_oru
from fhir_mappers.report_context import Recall, ReportContext, SignOff, Verdict

RECALL = Recall("Version 2.1.0 was trained on wrong labels.", ISSUED)


def noise_jpeg(side: int = 400) -> bytes:
    """A picture that does not compress."""
    rng = np.random.default_rng(7)
    written = io.BytesIO()
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(written, "JPEG", quality=80)
    return written.getvalue()


SMALL_JPEG = noise_jpeg(40)


def dialect(version: Hl7Version = Hl7Version.V2_5_1, **changes: object) -> Hl7Dialect:
    site = context().site
    return replace(Hl7Dialect.of(site), version=version, **changes)  # type: ignore[arg-type]


def signed(
    verdict: Verdict = Verdict.CONFIRMED,
    statement: str = "No effusion.\nNormal chest.",
    number: int = 1,
) -> ReportContext:
    word = SignOff(
        number, verdict, ISSUED, "Dr Zoë Example", ("urn:oid:2.999.2", "C123"), statement
    )
    return replace(context(), signed=word)


def ours(
    name: str,
    made: Hl7Dialect,
    said: ReportContext | None = None,
    *,
    picture: bytes | None = SMALL_JPEG,
    recalled: bool = False,
) -> bytes:
    outcome = OUTCOMES[name]
    said = said or context()
    if recalled:
        return recalled_oru(chest_study(), outcome, context=said, recall=RECALL, dialect=made)
    shown = picture if isinstance(outcome, TriageResult) else None
    return oru_r01(chest_study(), outcome, context=said, overlay_jpeg=shown, dialect=made)


def fields(content: bytes, name: str, codec: str = "utf-8") -> list[list[str]]:
    """The segments of a name, fields at their own numbers (but for MSH)."""
    lines = [line.split("|") for line in content.decode(codec).split("\r")]
    return [line for line in lines if line[0] == name]


def lines(*segments: str) -> bytes:
    return "".join(f"{segment}\r" for segment in segments).encode()


def header(kind: str, version: str = "2.5.1", control_id: str = "MSG1", rest: str = "") -> str:
    start = "MSH|^~\\&|RIS|TRUST|RADCDS|RADNET|20261120090000+0000|"
    return f"{start}|{kind}|{control_id}|P|{version}{rest}"


PID = "PID|1||MRN 123456^^^Example Trust^MR~999^^^&2.999.9&ISO^NH||TEST^PATIENT^^^MS^^L||19700101|F"


def orm(
    control: str = "NW",
    *,
    version: str = "2.3.1",
    more: Sequence[str] = (),
    obr_18: str = "ACC1001",
) -> bytes:
    return lines(
        header("ORM^O01^ORM_O01", version),
        PID,
        "PV1|1|O",
        f"ORC|{control}|PLC1^RIS|FIL1^RIS||SC||^^^20261120^^S",
        f"OBR|1|PLC1^RIS|FIL1^RIS|XCHEST^Chest radiograph^LOCAL||||||||||||||{obr_18}||||||DX",
        *more,
    )


def omi() -> bytes:
    return lines(
        header("OMI^O23^OMI_O23"),
        PID,
        "PV1|1|O",
        "ORC|NW|PLC1^RIS|FIL1^RIS||SC",
        "TQ1|1||||||||A^ASAP^HL70485",
        "OBR|1|PLC1^RIS|FIL1^RIS|36643-5^XR Chest 2 Views^LN",
        "IPC|ACC2002^RIS|RP1^RIS|1.2.840.99.1^RIS|SPS1^RIS|DX",
    )


def adt(event: str, *, pid: str = PID, more: Sequence[str] = ("PV1|1|O",)) -> bytes:
    structure = "ADT_A39" if event == "A40" else "ADT_A05" if event in {"A28", "A31"} else "ADT_A01"
    return lines(header(f"ADT^{event}^{structure}"), f"EVN|{event}|20261120090000+0000", pid, *more)


def merge(retired: str = "MRN 123456^^^Example Trust^MR") -> bytes:
    surviving = "PID|1||MRN 777^^^Example Trust^MR||TEST^PATIENT||19700101|F"
    return adt("A40", pid=surviving, more=(f"MRG|{retired}",))


def report(status: str = "F", *, more: Sequence[str] = ()) -> bytes:
    return lines(
        header("ORU^R01^ORU_R01", "2.4"),
        PID,
        "PV1|1|O",
        "ORC|RE|PLC1^RIS|FIL1^RIS",
        "OBR|1|PLC1^RIS|FIL1^RIS|XCHEST^Chest radiograph^LOCAL|||20261120091200|||||||||||ACC1001"
        f"||||20261120101500||RAD|{status}|||||||C123&Example&Zoe&&&Dr&&&RIS",
        "OBX|1|ST|113014^DICOM Study^DCM||1.2.826.0.1.3680043.8.498.1||||||O",
        r"OBX|2|FT|19005-8^Impression^LN||No effusion.\.br\Heart \T\ lungs clear.||||||F",
        "OBX|3|TX|59776-5^Findings^LN||Lines in place.~No pneumothorax.||||||F",
        "OBX|4|TX|59776-5^Findings^LN||An earlier and wrong line.||||||W",
        *more,
    )


OTHERS: dict[str, bytes] = {
    "order 2.3.1": orm(more=("ZDS|1.2.840.99.1^RIS^Application^DICOM",)),
    "order 2.4": orm("XO", version="2.4"),
    "order 2.5.1": orm("CA", version="2.5.1"),
    "imaging order": omi(),
    "admission": adt("A01"),
    "update": adt("A08"),
    "person update": adt("A31"),
    "merge": merge(),
    "report": report(),
}
"""Each without a fault."""
