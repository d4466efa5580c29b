"""Where the files of a set lie: in folder trees, in zips, or in both."""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from ai_engine.errors import ImagesMissing, UnreadableImage

_MOST_NAMED = 10


class ImageFiles:
    """The image files below some folders and zips, each by its path there.

    A process opens the zips for itself: a file position shared over a fork would mix up images.

    Parameters
    ----------
    places
        Folders, read with all below them, and zips.
    suffixes
        Of the files that count, in lower case, such as ``.png``; empty for every file.

    Raises
    ------
    ImagesMissing
        If a place is neither, or two places have a file of the same path.
    """

    def __init__(self, places: Sequence[Path], suffixes: frozenset[str] = frozenset()) -> None:
        self._place_of: dict[str, Path] = {}
        self._opened: dict[tuple[int, Path], zipfile.ZipFile] = {}
        for place in places:
            for name in _names(place):
                if suffixes and PurePosixPath(name).suffix.lower() not in suffixes:
                    continue
                if name in self._place_of:
                    msg = f"{name} lies in {self._place_of[name]} and in {place}: remove one."
                    raise ImagesMissing(msg)
                self._place_of[name] = place

    def __getstate__(self) -> dict[str, Any]:
        return {"_place_of": self._place_of, "_opened": {}}

    @property
    def place_of(self) -> Mapping[str, Path]:
        """The folder or zip of each address."""
        return MappingProxyType(self._place_of)

    def path(self, address: str) -> Path:
        """Give the path of a file that lies in a folder.

        Raises
        ------
        UnreadableImage
            If it lies in a zip, or nowhere.
        """
        place = self._place_of.get(address)
        if place is None or not place.is_dir():
            msg = f"{address}: this kind of image is read from folders only. Unpack the zip."
            raise UnreadableImage(msg)
        return place / address

    def content(self, address: str) -> bytes:
        """Read one file whole.

        Raises
        ------
        UnreadableImage
            If it is missing or its zip is damaged.
        """
        try:
            place = self._place_of[address]
            if place.is_dir():
                return (place / address).read_bytes()
            return self._zip(place).read(address)
        except (KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
            msg = f"{address} cannot be read ({error})."
            raise UnreadableImage(msg) from error

    def _zip(self, place: Path) -> zipfile.ZipFile:
        key = (os.getpid(), place)
        if key not in self._opened:
            self._opened[key] = zipfile.ZipFile(place)
        return self._opened[key]


def _names(place: Path) -> list[str]:
    """List the files of a folder or a zip.

    Raises
    ------
    ImagesMissing
        If it is neither.
    """
    try:
        if place.is_dir():
            found = (Path(folder) / name for folder, _, names in os.walk(place) for name in names)
            return sorted(each.relative_to(place).as_posix() for each in found)
        with zipfile.ZipFile(place) as files:
            return [each.filename for each in files.infolist() if not each.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"{place} is neither a folder nor a zip of images ({error})."
        raise ImagesMissing(msg) from error


def by_stem(files: ImageFiles) -> dict[str, str]:
    """Give the address of each file by its name without folder and suffix.

    Raises
    ------
    ImagesMissing
        If two files have one name.
    """
    addresses: dict[str, str] = {}
    for address in files.place_of:
        stem = PurePosixPath(address).stem
        if stem in addresses:
            msg = f"{addresses[stem]} and {address} have one name; the labels cannot tell them."
            raise ImagesMissing(msg)
        addresses[stem] = address
    return addresses


def refuse_missing(missing: Sequence[str], labelled: int, remedy: str) -> None:
    """Refuse a set of which images are missing.

    Raises
    ------
    ImagesMissing
        If there are any; it names the first ten and counts them.
    """
    if missing:
        named = ", ".join(missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        msg = f"{len(missing)} of {labelled} labelled images are missing: {named}{more}. {remedy}"
        raise ImagesMissing(msg)
