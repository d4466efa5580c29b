"""How training images are varied: MONAI's dictionary transforms. Needs the ``[torch]`` extra."""

import math

import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from ai_engine.training.configuration import Augmentation

IMAGE = "image"
"""Key of the image in the dictionaries of MONAI's transforms."""


def augmentation(wanted: Augmentation, rows: int, columns: int) -> Compose:
    """Build the variations, each applied to every image.

    MONAI scales the grid from which it samples, so that its scale is one over the magnification.
    Never mirrors head to foot: no chest stands on its head.

    Parameters
    ----------
    wanted
        How much.
    rows, columns
        Of the input.

    Returns
    -------
    Compose
        From ``{"image": (1, rows, columns)}`` to the same in ``float32``. Its draws follow
        ``set_random_state``.
    """
    shrink, grow = 1.0 / wanted.magnification_high - 1.0, 1.0 / wanted.magnification_low - 1.0
    steps: list[object] = [
        EnsureTyped(IMAGE, dtype=torch.float32, track_meta=False),
        RandAffined(
            IMAGE,
            prob=1.0,
            rotate_range=math.radians(wanted.rotation_degrees),
            scale_range=((shrink, grow), (shrink, grow)),
            translate_range=(wanted.shift * rows, wanted.shift * columns),
            padding_mode="border",
            cache_grid=False,
        ),
    ]
    if wanted.gamma_low < wanted.gamma_high:
        gamma = (wanted.gamma_low, wanted.gamma_high)
        steps.append(RandAdjustContrastd(IMAGE, prob=1.0, gamma=gamma))
    if wanted.contrast:
        steps.append(RandScaleIntensityd(IMAGE, prob=1.0, factors=wanted.contrast))
    if wanted.brightness:
        steps.append(RandShiftIntensityd(IMAGE, prob=1.0, offsets=wanted.brightness))
    if wanted.horizontal_flip:
        steps.append(RandFlipd(IMAGE, prob=0.5, spatial_axis=1))
    return Compose(steps)
