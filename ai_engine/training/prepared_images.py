"""Images prepared for the network once, and kept: in memory, or on disk where they are many.

MONAI's ``CacheDataset`` and ``PersistentDataset``, made to survive a kill. Needs the ``[torch]``
extra.
"""

import hashlib
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import CacheDataset, PersistentDataset
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms import Compose, MapTransform
from numpy.typing import NDArray
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset

from ai_engine.errors import ImagesMissing, UnreadableImage
from ai_engine.labelled_images.labelled_image import ImageSet, LabelledImage
from ai_engine.preprocess import InputSpec, network_input
from ai_engine.training.augmentation import IMAGE

_PREPROCESSING = 1
_MOST_NAMED = 10
_BYTES = np.dtype(np.float16).itemsize
Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class SetImage:
    """An image and the set that it is of.

    Parameters
    ----------
    set_name
        Name of the set.
    of
        The set.
    image
        The image.
    """

    set_name: str
    of: ImageSet
    image: LabelledImage


class Prepared(MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Reads one image and makes the network's input of it, exactly as serving does.

    Parameters
    ----------
    spec
        Input of the network.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__(IMAGE)
        self._spec = spec

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the image by ``(1, rows, columns)`` in half precision.

        Raises
        ------
        UnreadableImage
            If it is missing, damaged, in colour, or has pixels that are no numbers.
        """
        one: SetImage = data[IMAGE]
        pixels = one.of.pixels(one.image)
        if pixels.ndim != 2:  # noqa: PLR2004 - rows and columns
            msg = f"{one.image.address} has the shape {pixels.shape}; one channel is read."
            raise UnreadableImage(msg)
        if not np.isfinite(pixels).all():
            msg = f"{one.image.address} has pixels that are no numbers. Leave the image out."
            raise UnreadableImage(msg)
        return {**data, IMAGE: network_input(pixels, self._spec)[0].astype(np.float16)}


class ImagesInMemory(CacheDataset):  # type: ignore[misc]
    """MONAI's cache, filled with a progress bar, naming every image that cannot be read.

    Parameters
    ----------
    images
        To prepare.
    spec
        Input of the network.
    threads
        That read at the same time.
    progress
        Shows how far it is.
    """

    def __init__(
        self, images: Sequence[SetImage], spec: InputSpec, threads: int, progress: Progress
    ) -> None:
        self._progress = progress
        super().__init__(
            [{IMAGE: each} for each in images],
            Compose([Prepared(spec)]),
            num_workers=max(threads, 1),
            progress=False,
            copy_cache=False,
        )

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[dict[str, Half]]:
        wanted = list(range(self.cache_num)) if indices is None else list(indices)
        with ThreadPool(self.num_workers) as pool:
            told = pool.imap(_Caught(self._load_cache_item), wanted)
            return list(_all_readable(told, len(wanted), self._progress))


class ImagesOnDisk(PersistentDataset):  # type: ignore[misc]
    """MONAI's persistent set, with files that are whole or not there, and hold no code.

    MONAI writes elsewhere and moves: over the border of a file system that is a copy, which a kill
    cuts short and another process reads half. Here a file is renamed within its folder, and holds
    a NumPy array and nothing else. Its name depends on the image and on all that prepares it.

    Parameters
    ----------
    images
        To prepare.
    spec
        Input of the network.
    folder
        That keeps them; several runs may share it.
    """

    def __init__(self, images: Sequence[SetImage], spec: InputSpec, folder: Path) -> None:
        self._spec = spec
        super().__init__([{IMAGE: each} for each in images], Compose([Prepared(spec)]), folder)

    def _cachecheck(self, item_transformed: Mapping[str, SetImage]) -> dict[str, Half]:
        kept = self._kept_at(item_transformed[IMAGE])
        try:
            return {IMAGE: np.load(kept, allow_pickle=False)}
        except (FileNotFoundError, ValueError, EOFError):  # not there, or cut short by a power cut
            prepared: dict[str, Half] = self._pre_transform(dict(item_transformed))
        _replace(kept, lambda handle: np.save(handle, prepared[IMAGE], allow_pickle=False))
        return prepared

    def _kept_at(self, one: SetImage) -> Path:
        folder: Path = self.cache_dir
        named = f"{_PREPROCESSING}|{one.set_name}|{one.image.address}|{self._spec}"
        digest = hashlib.sha256(named.encode()).hexdigest()
        return folder / digest[:2] / f"{digest}.npy"

    def fill(self, workers: int, progress: Progress) -> None:
        """Prepare what is not there yet.

        Parameters
        ----------
        workers
            Processes that prepare; 0 for this one alone.
        progress
            Shows how far it is.

        Raises
        ------
        ImagesMissing
            Naming the images that cannot be read.
        """
        absent = [
            index
            for index, each in enumerate(self.data)
            if not self._kept_at(each[IMAGE]).is_file()
        ]
        loader = DataLoader(
            _Filling(self, absent),
            batch_size=None,
            num_workers=workers,
            collate_fn=_unchanged,
            multiprocessing_context="fork" if workers else None,
        )
        for _ in _all_readable(iter(loader), len(absent), progress):
            pass


class _Filling(Dataset[str | None]):
    """Prepares an image when asked for it, and gives what went wrong."""

    def __init__(self, images: ImagesOnDisk, indices: Sequence[int]) -> None:
        self._prepare, self._indices = _Caught(images.__getitem__), indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, at: int) -> str | None:
        told = self._prepare(self._indices[at])
        return told if isinstance(told, str) else None


@dataclass(frozen=True, slots=True)
class _Caught:
    """Calls a transform and gives the sentence of an unreadable image instead of raising it."""

    function: Callable[[int], Any]

    def __call__(self, index: int) -> Any:  # noqa: ANN401 - whatever the function gives
        try:
            return self.function(index)
        except RuntimeError as error:  # MONAI raises this from what a transform raised
            if isinstance(error.__cause__, UnreadableImage):
                return str(error.__cause__)
            raise


def _all_readable(told: Iterator[Any], total: int, progress: Progress) -> Iterator[Any]:
    """Pass on what was prepared, with a progress bar.

    Raises
    ------
    ImagesMissing
        After the last, if any image could not be read: the first ten are named.
    """
    task = progress.add_task("preparing images", total=total)
    unreadable = []
    for each in told:
        if isinstance(each, str):
            unreadable.append(each)
        yield each
        progress.advance(task)
    progress.remove_task(task)
    if unreadable:
        named = "\n  ".join(unreadable[:_MOST_NAMED])
        more = len(unreadable) - _MOST_NAMED
        msg = f"{len(unreadable)} of {total} images cannot be read:\n  {named}"
        msg += f"\n  and {more} more" if more > 0 else ""
        msg += "\nReplace them, or take them out of the label file."
        raise ImagesMissing(msg)


def bytes_of(count: int, spec: InputSpec) -> int:
    """Give the bytes that prepared images take."""
    return count * spec.rows * spec.columns * _BYTES


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Let MONAI's transforms work on plain tensors while the block runs."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _unchanged(item: Any) -> Any:  # noqa: ANN401 - whatever it is
    return item


def _replace(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as handle:
        write(handle)
    Path(handle.name).replace(path)
