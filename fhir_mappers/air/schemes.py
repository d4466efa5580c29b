"""Coding schemes that a reader can look up (DICOM PS3.16 Table 8-1)."""

# fmt: off
SCHEMES = frozenset(
    (
        "ACR", "ASTM-sigpurpose", "BARI", "BI", "C4", "C5", "CADSR", "CD2", "CTV3", "DC", "DCM",
        "DCMUID", "E", "EYECODE", "FMA", "HPC", "I10", "I10C", "I10P", "I11", "I9", "I9C",
        "IBSI", "ICDO3", "IETF4646", "IHERADTF", "ISO3166_1", "ISO639_1", "ISO639_2", "ISO_OID",
        "ITIS_TSN", "LN", "LNR", "MA", "MAYOASRG", "MCM", "MDC", "MDDC", "MDNS", "MGI", "MGPI",
        "MSH", "NCIM", "NCIt", "NDC", "NEU", "NICIP", "NYUMCCG", "O", "PATHLEX", "POS",
        "PUBCHEM_CID", "RADELEMENT", "RADLEX", "RFC3066", "RFC5646", "RO", "RRID", "RXNORM",
        "SCT", "SNM3", "SRT", "UBERON", "UCUM", "UMLS", "UNS", "UPC", "W4",
    )
)
# fmt: on


def is_private(scheme: str) -> bool:
    """Whether a scheme is declared private or local (DICOM PS3.3 8.2)."""
    return scheme.startswith("99") or scheme == "L"
