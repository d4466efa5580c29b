"""Label files: CSV, plain or gzipped, read whole and checked."""

import csv
import gzip
import hashlib
import io
import re
from pathlib import Path

from ai_engine.errors import LabelsRefused

_MOST_AGE_YEARS = 120.0


def read_text(path: Path) -> str:
    """Read a label file, unpacking ``.gz``.

    Raises
    ------
    LabelsRefused
        If it is missing, damaged or not UTF-8.
    """
    try:
        content = path.read_bytes()
        unpacked = gzip.decompress(content) if path.suffix == ".gz" else content
        return unpacked.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read ({error}). Give the label file as UTF-8 text, plain or .gz."
        raise LabelsRefused(msg) from error


def read_rows(path: Path, required: frozenset[str]) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Parameters
    ----------
    path
        Of the file.
    required
        Columns that it must have.

    Returns
    -------
    list[dict[str, str]]
        The values of each line by column, without surrounding blanks.

    Raises
    ------
    LabelsRefused
        If it is empty, a column is missing or there twice, or a line has another number of values.
    """
    lines = csv.reader(io.StringIO(read_text(path), newline=""))
    header = [name.strip() for name in next(lines, [])]
    if absent := required - set(header):
        msg = f"{path}: the header has no column {min(absent)!r}; it has: {', '.join(header)}."
        raise LabelsRefused(msg)
    if twice := {name for name in header if name and header.count(name) > 1}:
        msg = f"{path}: the column {min(twice)!r} is there twice; leave one."
        raise LabelsRefused(msg)
    rows = []
    for values in filter(None, lines):
        if len(values) != len(header):
            msg = (
                f"{path}, line {lines.line_num}: {len(values)} values for {len(header)} columns. "
                "Quote values that hold a comma."
            )
            raise LabelsRefused(msg)
        rows.append(dict(zip(header, map(str.strip, values), strict=True)))
    if not rows:
        msg = f"{path} labels no image: there is no line below the header."
        raise LabelsRefused(msg)
    return rows


def finding_name(label: str) -> str:
    """Give the finding's key: ``Pleural Thickening`` is ``pleural_thickening``."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def age_years(text: str) -> float | None:
    """Read an age such as ``58``, ``058Y`` or ``007M``; ``None`` where it says none that can be.

    NIH's first release has ages such as 411 years.

    References
    ----------
    DICOM PS3.5 6.2, AS.
    """
    matched = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*([DWMY]?)", text.strip().upper())
    if not matched:
        return None
    years = float(matched[1]) / {"D": 365.25, "W": 52.18, "M": 12.0}.get(matched[2], 1.0)
    return years if years <= _MOST_AGE_YEARS else None


def sex_letter(text: str) -> str:
    """Give ``F``, ``M`` or nothing."""
    letter = text.strip().upper()[:1]
    return letter if letter in {"F", "M"} else ""


def sha256_of(path: Path) -> str:
    """Digest a file, 64 hexadecimal digits.

    Raises
    ------
    LabelsRefused
        If it cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror})."
        raise LabelsRefused(msg) from error
