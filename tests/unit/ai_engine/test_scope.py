"""What the model was not built for is declined with its reason, and never called normal."""

from dataclasses import replace

import numpy as np
import pytest
from studies import chest_image

from ai_engine.engine import Engine
from ai_engine.image import AgeBand, Image, Subject, View
from ai_engine.result import NotAnalysed, Reason, TriageResult


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"view": View.LATERAL}, Reason.LATERAL_VIEW),
        ({"view": View.OTHER}, Reason.UNKNOWN_VIEW),
        ({"view": View.UNKNOWN}, Reason.UNKNOWN_VIEW),
        ({"subject": Subject.OTHER_RADIOGRAPH}, Reason.NON_CHEST),
        ({"subject": Subject.UNKNOWN_RADIOGRAPH}, Reason.NON_CHEST),
        ({"subject": Subject.CT}, Reason.UNSUPPORTED_MODALITY),
        ({"subject": Subject.OTHER}, Reason.UNSUPPORTED_MODALITY),
        ({"age_band": AgeBand.CHILD}, Reason.PAEDIATRIC),
        ({"pixels": np.zeros((256, 256), np.float32)}, Reason.POOR_QUALITY),
        ({"pixels": np.full((256, 256), 0.7, np.float32)}, Reason.POOR_QUALITY),
        ({"pixels": np.random.default_rng(1).random((64, 64), np.float32)}, Reason.POOR_QUALITY),
        ({"pixels": np.full((256, 256), np.nan, np.float32)}, Reason.POOR_QUALITY),
    ],
)
def test_an_image_out_of_scope_is_declined(
    engine: Engine, changes: dict[str, object], reason: Reason
) -> None:
    declined = engine.read([replace(chest_image(), **changes)])
    assert isinstance(declined, NotAnalysed)
    assert declined.reason is reason
    assert declined.model == engine.model


def test_noise_is_too_unlike_the_training_images(engine: Engine) -> None:
    noise = np.random.default_rng(7).random((320, 320)).astype(np.float32)
    declined = engine.read([replace(chest_image(), pixels=noise)])
    assert isinstance(declined, NotAnalysed)
    assert declined.reason is Reason.OUT_OF_DISTRIBUTION


def test_no_image_is_said(engine: Engine) -> None:
    declined = engine.read([])
    assert isinstance(declined, NotAnalysed)
    assert declined.reason is Reason.NO_IMAGE


def test_a_lateral_beside_a_frontal_view_does_not_stop_the_reading(
    engine: Engine, rg1_image: Image
) -> None:
    lateral = replace(rg1_image, view=View.LATERAL)
    result = engine.read([lateral, rg1_image])
    assert isinstance(result, TriageResult)
    assert result.image_index == 1
