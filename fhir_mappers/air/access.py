"""Attributes of a dataset that nobody vouches for. Nothing here raises: what is broken is absent.

A checker that fails on a bad object says nothing about it.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items

UNDECODABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises for a value that it cannot make sense of."""

DEEPEST = 64
"""Levels of nesting that are looked into."""
MOST_ITEMS = 200_000
"""Sequence items of one object that are looked into."""
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_LONGEST_UID = 64
_LONGEST_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Code:
    """A coded entry (DICOM PS3.3 8.8); a part that is missing is empty."""

    value: str
    scheme: str
    meaning: str

    @property
    def whole(self) -> bool:
        """Whether it has every part that a code needs."""
        return bool(self.value and self.meaning and (self.scheme or _is_urn(self.value)))

    def is_dcm(self, *values: str) -> bool:
        """Whether it is one of these codes of the DICOM Controlled Terminology."""
        return self.scheme == "DCM" and self.value in values


def attribute(dataset: Dataset, keyword: str) -> object:
    """Give a value, or ``None`` where it is absent or cannot be decoded."""
    try:
        return dataset.get(keyword)
    except UNDECODABLE:
        return None


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Give every value as text without padding; none where it is absent, empty or a sequence."""
    value = attribute(dataset, keyword)
    if value is None or isinstance(value, Items | bytes):
        return ()
    several = value if isinstance(value, MultiValue | list | tuple) else [value]
    try:
        return tuple(
            stripped for each in several if (stripped := str(each).replace("\0", "").strip())
        )
    except UNDECODABLE:
        return ()


def text(dataset: Dataset, keyword: str) -> str:
    """Give the first value as text without padding, or nothing."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Give every value as a number; none at all where one of them is no number."""
    try:
        return tuple(float(each) for each in texts(dataset, keyword))
    except ValueError:
        return ()


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Give the items of a sequence, or none."""
    value = attribute(dataset, keyword)
    if not isinstance(value, Items):
        return ()
    try:
        return tuple(each for each in value if isinstance(each, Dataset))
    except UNDECODABLE:
        return ()


def code_of(item: Dataset) -> Code:
    """Read an item of a code sequence.

    References
    ----------
    DICOM PS3.3 8.8: the value is short, long, or a URN or URL.
    """
    named = ("CodeValue", "LongCodeValue", "URNCodeValue")
    value = next((found for name in named if (found := text(item, name))), "")
    return Code(value, text(item, "CodingSchemeDesignator"), text(item, "CodeMeaning"))


def code(dataset: Dataset, keyword: str) -> Code:
    """Read the first item of a code sequence; an empty code where there is none."""
    return code_of((*items(dataset, keyword), Dataset())[0])


def walk(dataset: Dataset) -> Iterator[tuple[tuple[tuple[str, Dataset], ...], Dataset]]:
    """Go through a dataset and every nested item, with the way to it, never by recursion.

    Yields
    ------
    tuple
        The way: pairs of a sequence's keyword and the item that was entered; and the item itself.
        Stops ``DEEPEST`` levels down and after ``MOST_ITEMS``.
    """
    waiting: list[tuple[tuple[tuple[str, Dataset], ...], Dataset]] = [((), dataset)]
    for _ in range(MOST_ITEMS):
        if not waiting:
            return
        way, item = waiting.pop()
        yield way, item
        if len(way) < DEEPEST:
            inner = [
                ((*way, (keyword, each)), each)
                for keyword in sequences(item)
                for each in items(item, keyword)
            ]
            waiting.extend(reversed(inner))


def sequences(dataset: Dataset) -> tuple[str, ...]:
    """Name the sequences of a dataset by their keywords; private ones are left out."""
    return tuple(keyword for keyword, vr in elements(dataset) if vr == "SQ")


def elements(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Give keyword and value representation of every standard element that can be decoded."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            keyword, vr = element.keyword, str(element.VR)
        except UNDECODABLE:
            continue
        if keyword:
            yield keyword, vr


def is_uid(value: str) -> bool:
    """Whether a text is a UID.

    References
    ----------
    DICOM PS3.5 9.1: numbers without leading zeros, joined by dots, at most 64 characters.
    """
    return len(value) <= _LONGEST_UID and bool(_UID.fullmatch(value))


def shown(value: str) -> str:
    """Make a text of an object fit for a terminal: printable, on one line, not long."""
    printable = "".join(each if each.isprintable() else "�" for each in value[: _LONGEST_SHOWN + 1])
    cut = len(printable) > _LONGEST_SHOWN
    return f"{printable[:_LONGEST_SHOWN]}…" if cut else printable


def _is_urn(value: str) -> bool:
    return value.startswith(("urn:", "http://", "https://"))
