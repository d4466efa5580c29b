"""What a recalled model says of the next study: nothing, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from studies import ISSUED, MODEL, OUTCOMES, chest_image

from ai_engine.image import Image
from ai_engine.result import ModelIdentity, NotAnalysed, Outcome, Reason
from cds_server.amendments import RecallAsked
from cds_server.recalled_model import UnlessRecalled
from fhir_mappers.report_context import Recall


@dataclass
class Engine:
    model: ModelIdentity = MODEL
    model_card: dict[str, object] = field(default_factory=lambda: {"purpose": "test"})
    modalities: frozenset[str] = frozenset({"DX"})
    asked: int = 0

    def read(self, images: Sequence[Image]) -> Outcome:
        assert images
        self.asked += 1
        return OUTCOMES["urgent"]


def test_a_recalled_model_is_not_asked_and_the_study_is_said_to_be_unread() -> None:
    engine, recalls = Engine(), list[RecallAsked]()
    reader = UnlessRecalled(engine, lambda: recalls)
    assert (reader.model, reader.modalities) == (MODEL, engine.modalities)
    assert reader.model_card == {"purpose": "test"}
    assert reader.read([chest_image()]) == OUTCOMES["urgent"]
    recalls.append(RecallAsked(MODEL.sha256, Recall("Reads detector X wrongly.", ISSUED), "op"))
    said = reader.read([chest_image()])
    assert said == NotAnalysed(
        Reason.MODEL_RECALLED,
        "This version of the model was recalled: Reads detector X wrongly.",
        MODEL,
    )
    assert engine.asked == 1


def test_the_recall_of_another_version_stops_nothing() -> None:
    other = RecallAsked("0" * 64, Recall("Wrong labels.", ISSUED), "op")
    newer = Engine(replace(MODEL, version="2.2.0"))
    assert UnlessRecalled(newer, lambda: [other]).read([chest_image()]) == OUTCOMES["urgent"]
