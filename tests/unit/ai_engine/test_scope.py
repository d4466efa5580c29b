"""What the model was not built for is declined with its reason, and never called normal."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import chest_image

from ai_engine.engine import Engine
from ai_engine.image import AgeBand, Image, Subject, View
from ai_engine.result import NotAnalysed, Reason, TriageResult
from ai_engine.scope import Familiarity, Range, Scope


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
        ({"pixel_spacing_mm": (0.02, 0.02)}, Reason.FIELD_OF_VIEW),
        ({"pixel_spacing_mm": (2.0, 0.8)}, Reason.FIELD_OF_VIEW),
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


CHILDREN = Scope(
    frozenset({Subject.CHEST_RADIOGRAPH}),
    frozenset({View.AP, View.PA}),
    frozenset({AgeBand.CHILD}),
    Range(80.0, 600.0),
)
SLICES = Scope(
    frozenset({Subject.CT}), frozenset({View.OTHER}), frozenset(AgeBand), Range(80.0, 600.0)
)


@pytest.mark.parametrize(
    ("scope", "changes", "reason"),
    [
        (CHILDREN, {"age_band": AgeBand.ADULT}, Reason.ADULT),
        (CHILDREN, {"age_band": AgeBand.UNKNOWN}, Reason.UNKNOWN_AGE),
        (CHILDREN, {"age_band": AgeBand.CHILD}, None),
        (SLICES, {}, Reason.UNSUPPORTED_MODALITY),
        (SLICES, {"subject": Subject.CT, "view": View.OTHER}, None),
    ],
)
def test_each_model_reads_only_what_its_bundle_says(
    scope: Scope, changes: dict[str, object], reason: Reason | None
) -> None:
    side = 32 * 32
    anything = Familiarity(np.zeros(side, np.float32), np.zeros((1, side), np.float32), 1.0)
    refusal = scope.refusal(replace(chest_image(), **changes), anything)
    assert (refusal and refusal[0]) is reason


@given(
    st.builds(
        Image,
        st.just(chest_image().pixels),
        *map(st.sampled_from, (Subject, View)),
        st.sampled_from(AgeBand),
    )
)
def test_every_refusal_has_its_own_code_and_words(image: Image) -> None:
    for scope in (CHILDREN, SLICES):
        side = 32 * 32
        anything = Familiarity(np.zeros(side, np.float32), np.zeros((1, side), np.float32), 1.0)
        refusal = scope.refusal(image, anything)
        read = (image.subject in scope.subjects, image.view in scope.views)
        assert (refusal is None) == (all(read) and image.age_band in scope.age_bands)
        if refusal:
            assert refusal[1].endswith(".")
            assert not refusal[0].is_failure


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
