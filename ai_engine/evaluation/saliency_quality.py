"""Whether saliency maps follow the model, and whether they point at the finding.

The two differ: a map can be true to a model that looks in the wrong place. Each figure stands
beside what random maps of the same resolution, and the centre of the image, would give.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.progress import Progress

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import Estimate
from ai_engine.evaluation.pointing_game import (
    Box,
    PointedCase,
    Pointing,
    cell_centres,
    point,
    pointing_game,
)
from ai_engine.evaluation.resampling import PersonDraws, mean_over_persons, numbered

Floats = NDArray[np.float64]
Infer = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""One input ``(1, channels, rows, columns)`` in; logits ``(findings,)`` and maps ``(findings, map
rows, map columns)`` out, as ``CpuRuntime.infer`` gives them."""

_STEPS = 20
_BLUR_CELLS = 4


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyCase:
    """One image whose map for one finding is judged: an image that has the finding.

    Parameters
    ----------
    network_input
        **shape** ``(1, channels, rows, columns)``, ready for the network.
    finding_index
        Of the finding among the outputs.
    person
        Key of the person, for the intervals.
    boxes
        Where readers saw this finding; empty where none was drawn.
    """

    network_input: NDArray[np.float32]
    finding_index: int
    person: str
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Perturbation:
    """How the probability answers when cells are shown, or taken away, the map's strongest first.

    Parameters
    ----------
    insertion_auc, deletion_auc
        Mean probability, 0 to 1, while a blurred image is uncovered (more is better), and while
        the image is blurred (less is better).
    gap
        Insertion minus deletion.
    """

    insertion_auc: Estimate
    deletion_auc: Estimate
    gap: Estimate


@dataclass(frozen=True, slots=True)
class SaliencyQuality:
    """Figures of the maps.

    Parameters
    ----------
    images, persons
        Judged by insertion and deletion.
    map_rows, map_columns
        Cells of a map: nothing finer can be claimed.
    model, random_maps, image_centre
        Order of cells by the map, by chance, and by distance from the centre.
    model_minus_random, model_minus_centre
        Differences of the gap on the same images; above 0 the map knows what the model looks at.
    pointing
        ``None`` where no case has a box.
    """

    images: int
    persons: int
    map_rows: int
    map_columns: int
    model: Perturbation
    random_maps: Perturbation
    image_centre: Perturbation
    model_minus_random: Estimate
    model_minus_centre: Estimate
    pointing: Pointing | None


def judge_saliency(
    cases: Sequence[SaliencyCase],
    infer: Infer,
    *,
    steps: int = _STEPS,
    seed: int = 1,
    progress: Progress | None = None,
) -> SaliencyQuality:
    """Judge the maps of a model.

    Parameters
    ----------
    cases
        Images that have the finding whose map is judged.
    infer
        Runs the model on one input.
    steps
        Of insertion and of deletion: each costs three inferences of each kind per case.
    seed
        Of the random maps and the intervals.
    progress
        Where to show how far it is, or ``None``.

    Raises
    ------
    NotMeasurable
        If there is no case, or the model gives maps of a strange shape or without numbers.

    References
    ----------
    Petsiuk et al., RISE, BMVC 2018 (insertion, deletion); Zhang et al., ECCV 2016 (pointing game).
    """
    if not cases:
        msg = "no image to judge maps on. Give images that have a finding of the model."
        raise NotMeasurable(msg)
    rng = np.random.default_rng(seed)
    shown = progress.track(cases, description="judging saliency maps") if progress else cases
    measured = np.empty((len(cases), 3, 2))
    pointed: list[PointedCase] = []
    for index, case in enumerate(shown):
        grid = _map(infer, case)
        orders = (grid, rng.random(grid.shape), -_distance_from_centre(grid.shape))
        for kind, order in enumerate(orders):
            measured[index, kind] = _insertion_and_deletion(infer, case, order, steps)
        if case.boxes:
            pointed.append(point(grid, case.boxes, case.person))
    persons = numbered([case.person for case in cases])
    draws = PersonDraws(persons, seed=seed)
    gaps = measured[:, :, 0] - measured[:, :, 1]
    return SaliencyQuality(
        images=len(cases),
        persons=int(persons.max()) + 1,
        map_rows=grid.shape[0],
        map_columns=grid.shape[1],
        model=_perturbation(measured[:, 0], draws),
        random_maps=_perturbation(measured[:, 1], draws),
        image_centre=_perturbation(measured[:, 2], draws),
        model_minus_random=mean_over_persons(gaps[:, 0] - gaps[:, 1], draws),
        model_minus_centre=mean_over_persons(gaps[:, 0] - gaps[:, 2], draws),
        pointing=pointing_game(pointed, seed=seed) if pointed else None,
    )


def _map(infer: Infer, case: SaliencyCase) -> Floats:
    """Give the map of the case's finding.

    Raises
    ------
    NotMeasurable
        If it is none.
    """
    logits, maps = infer(case.network_input)
    if maps.ndim != 3 or len(maps) != len(logits) or not 0 <= case.finding_index < len(maps):  # noqa: PLR2004 - findings, rows, columns
        msg = (
            f"the model gave maps of shape {maps.shape} and logits of shape {logits.shape} for "
            f"finding {case.finding_index}; expected (findings, rows, columns) and (findings,)."
        )
        raise NotMeasurable(msg)
    grid = np.asarray(maps[case.finding_index], dtype=np.float64)
    if not (np.isfinite(grid).all() and np.isfinite(logits).all()):
        msg = "the model gave a map or a logit that is no number, so its maps cannot be judged."
        raise NotMeasurable(msg)
    return grid


def _insertion_and_deletion(
    infer: Infer, case: SaliencyCase, order: Floats, steps: int
) -> tuple[float, float]:
    """Give the mean probability while the image is uncovered, and while it is blurred."""
    image = case.network_input
    blurred = _blurred(image)
    place = np.empty(order.size, dtype=np.int64)
    place[np.argsort(-order.ravel(), kind="stable")] = np.arange(order.size)
    cells = place.reshape(order.shape)
    down = np.arange(image.shape[2]) * order.shape[0] // image.shape[2]
    across = np.arange(image.shape[3]) * order.shape[1] // image.shape[3]
    pixels = cells[np.ix_(down, across)]
    inserted: list[float] = []
    deleted: list[float] = []
    for step in range(steps + 1):
        strongest = pixels < round(order.size * step / steps)
        for first, second, kept in ((image, blurred, inserted), (blurred, image, deleted)):
            logits, _ = infer(np.where(strongest, first, second).astype(np.float32))
            kept.append(0.5 * (1.0 + np.tanh(float(logits[case.finding_index]) / 2)))
    return float(np.trapezoid(inserted) / steps), float(np.trapezoid(deleted) / steps)


def _blurred(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shrink to a few pixels and enlarge again: no detail, the same brightness."""
    rows, columns = image.shape[2:]
    channels = []
    for channel in image[0]:
        picture = Pillow.fromarray(np.ascontiguousarray(channel))
        small = picture.resize((_BLUR_CELLS, _BLUR_CELLS), Pillow.Resampling.BOX)
        channels.append(np.asarray(small.resize((columns, rows), Pillow.Resampling.BILINEAR)))
    return np.asarray(np.stack(channels)[np.newaxis], dtype=np.float32)


def _distance_from_centre(shape: tuple[int, ...]) -> Floats:
    down, across = cell_centres(shape)
    return np.asarray(np.hypot(down - 0.5, across - 0.5))


def _perturbation(measured: Floats, draws: PersonDraws) -> Perturbation:
    insertion, deletion = measured.T
    return Perturbation(
        mean_over_persons(insertion, draws),
        mean_over_persons(deletion, draws),
        mean_over_persons(insertion - deletion, draws),
    )
