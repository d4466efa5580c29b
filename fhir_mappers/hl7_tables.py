"""Codes and lengths of HL7 v2 that are checked. A reviewed table.

Codes are those of versions 2.3.1 to 2.5.1, and what later versions added to OBX-2 and MSH-18, which
is in use under the older versions too. Lengths are of fields of a simple type; before 2.5 the
lengths of composite fields were written down too short for what they hold, and nobody keeps them.
OBX-9 has no length here: of a probability of 0.49996 five characters make another statement.

References
----------
HL7 v2.3.1, v2.4, v2.5.1 appendix A (tables), ch. 2 to 7 (lengths).
"""

import re
from collections.abc import Mapping

_MODALITIES = "BI BMD CR CT DX EC ES IO IVUS MG MR NM OT PT PX RF RG US XA XC"
"""Of DICOM PS3.3 C.7.3.1.1.1: IHE RAD-4 puts the modality of an order into OBR-24."""
TABLES: Mapping[str, frozenset[str]] = {
    name: frozenset(codes.split())
    for name, codes in {
        "0001": "A F M N O U",
        "0004": "B C E I N O P R U",
        "0008": "AA AE AR CA CE CR",
        "0038": "A CA CM DC ER HD IP RP SC",
        "0074": (
            "AU BG BLB CG CH CP CT CTH CUS EC EN GE HM ICU IMG IMM LAB MB MCB MYC NMR NMS NRS OSL"
            " OT OTH OUS PAR PAT PF PHR PHY PT RAD RC RT RUS RX SP SR TX URN VR VUS XRC"
            f" {_MODALITIES}"
        ),
        "0078": "< > A AA B D H HH I L LL MS N null R S U VS W",
        "0085": "C D F I N O P R S U W X",
        "0103": "D P T",
        "0105": "L O P",
        "0119": (
            "AF CA CH CN CR DC DE DF DR FU HD HR LI NA NW OC OD OE OF OH OK OP OR PA PR PY RE RF"
            " RL RO RP RQ RR RU SC SN SR SS SU UA UC UD UF UH UM UN UR UX XO XR XX"
        ),
        "0123": "A C F I O P R S X Y Z",
        "0125": (
            "AD CE CF CK CN CNE CP CWE CX DT DTM ED FT MO NM PN RP SN ST TM TN TS TX XAD XCN XON"
            " XPN XTN"
        ),
        "0155": "AL ER NE SU",
        "0191": "AP Application AU Audio FT IM Image multipart NS SD SI TEXT TX",
        "0200": "A B C D I L M N P R S T U",
        "0291": (
            "BASIC DICOM FAX GIF HTML JOT JPEG Octet-stream PICT PostScript RTF SGML TIFF XML"
            " x-hl7-cda-level-one"
        ),
        "0299": "A Base64 Hex",
        "0357": "0 100 101 102 103 104 198 199 200 201 202 203 204 205 206 207",
        "0485": "A C P PRN R S T",
        "0516": "E F I W",
    }.items()
}
"""By number."""
CODED_FIELDS: Mapping[tuple[str, int], tuple[int, str]] = {
    ("MSA", 1): (1, "0008"), ("MSH", 11): (1, "0103"), ("MSH", 15): (1, "0155"),
    ("MSH", 16): (1, "0155"), ("ERR", 3): (1, "0357"), ("ERR", 4): (1, "0516"),
    ("PID", 5): (7, "0200"), ("PID", 8): (1, "0001"), ("PV1", 2): (1, "0004"),
    ("ORC", 1): (1, "0119"), ("ORC", 5): (1, "0038"), ("OBR", 24): (1, "0074"),
    ("OBR", 25): (1, "0123"), ("NTE", 2): (1, "0105"), ("OBX", 2): (1, "0125"),
    ("OBX", 8): (1, "0078"), ("OBX", 11): (1, "0085"), ("TQ1", 9): (1, "0485"),
}  # fmt: skip
"""Fields whose codes are checked: component and table."""
PRIORITY_WITHIN = re.compile(r"T[SMHDWL]\d{1,4}")
"""Of table 0485: within so many seconds, minutes, hours, days, weeks or months."""
ENCAPSULATED: Mapping[int, str] = {2: "0191", 3: "0291", 4: "0299"}
"""Components of ED and their tables; RP has the first two one place later."""
LENGTHS: Mapping[tuple[str, int], int] = {
    ("MSH", 8): 40, ("MSH", 10): 20, ("MSH", 13): 15, ("MSA", 2): 20, ("MSA", 3): 80,
    ("SFT", 2): 15, ("SFT", 3): 20, ("SFT", 4): 20, ("SFT", 5): 1_024,
    ("PID", 19): 16, ("OBR", 13): 300, ("OBR", 18): 60, ("OBR", 19): 60, ("OBR", 20): 60,
    ("OBR", 21): 60, ("OBX", 4): 20, ("OBX", 7): 60, ("OBX", 8): 5, ("OBX", 13): 20,
    ("NTE", 3): 65_536, ("ERR", 7): 2_048, ("ERR", 8): 250, ("IPC", 9): 16,
}  # fmt: skip
"""Characters of a repetition, the same in the three versions."""
LONGEST_TIME, LONGEST_SET_ID = 26, 4
