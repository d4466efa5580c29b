"""Which images are read, and what is said of a study without any."""

from dataclasses import replace

import pytest
from studies import chest_study

from ai_engine.result import Reason
from fhir_mappers.selection import select_images
from fhir_mappers.study import Study


def with_instance(**changes: object) -> Study:
    study = chest_study()
    series = study.series[0]
    instance = replace(series.instances[0], **changes)  # type: ignore[arg-type]
    return replace(study, series=(replace(series, instances=(instance,)),))


def with_series(**changes: object) -> Study:
    study = chest_study()
    return replace(study, series=(replace(study.series[0], **changes),))  # type: ignore[arg-type]


def test_a_frontal_radiograph_is_chosen() -> None:
    assert len(select_images(chest_study()).chosen) == 1


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (with_instance(view_position="LL"), Reason.LATERAL_VIEW),
        (with_instance(number_of_frames=12), Reason.MULTI_FRAME),
        (with_instance(number_of_frames=0), Reason.NO_IMAGE),
        (with_instance(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), Reason.POOR_QUALITY),
        (with_series(modality="CT"), Reason.UNSUPPORTED_MODALITY),
        (with_series(modality="SR"), Reason.NO_IMAGE),
        (with_series(modality="OT"), Reason.NO_IMAGE),
        (chest_study(series=()), Reason.NO_IMAGE),
    ],
)
def test_a_study_without_a_readable_image_says_why(study: Study, reason: Reason) -> None:
    selection = select_images(study)
    assert not selection.chosen
    assert selection.declined().reason is reason


def test_frontal_views_come_before_unnamed_ones_and_laterals_are_left_out() -> None:
    study = chest_study()
    first = study.series[0].instances[0]
    instances = (
        replace(first, sop_instance_uid="1.1", view_position=""),
        replace(first, sop_instance_uid="1.2", view_position="LL"),
        replace(first, sop_instance_uid="1.3", view_position="AP"),
    )
    selection = select_images(
        replace(study, series=(replace(study.series[0], instances=instances),))
    )
    assert [chosen.sop_instance_uid for chosen in selection.chosen] == ["1.3", "1.1"]
    assert [excluded.sop_instance_uid for excluded in selection.excluded] == ["1.2"]


def test_our_own_results_are_never_read_again() -> None:
    own = replace(chest_study().series[0], modality="OT")
    both = replace(chest_study(), series=(chest_study().series[0], own))
    assert len(select_images(both).chosen) == 1
