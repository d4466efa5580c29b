"""A model that is recalled reads nothing more."""

from collections.abc import Callable, Sequence

from ai_engine.image import Image
from ai_engine.result import ModelIdentity, NotAnalysed, Outcome, Reason
from cds_server.amendments import RecallAsked
from cds_server.ports import Reader


class UnlessRecalled:
    """The AI engine, until its model version is recalled: then each study is said to be unread.

    Parameters
    ----------
    reader
        The engine.
    recalls
        Gives every model version that is recalled.
    """

    def __init__(self, reader: Reader, recalls: Callable[[], Sequence[RecallAsked]]) -> None:
        self._reader = reader
        self._recalls = recalls

    @property
    def model(self) -> ModelIdentity:
        """Which model it is."""
        return self._reader.model

    @property
    def model_card(self) -> dict[str, object]:
        """What the model is for, and what it was tested on."""
        return self._reader.model_card

    @property
    def modalities(self) -> frozenset[str]:
        """DICOM modalities that it reads."""
        return self._reader.modalities

    def read(self, images: Sequence[Image]) -> Outcome:
        """Read a study, or say that its model is recalled.

        Raises
        ------
        AiEngineError
            If the model breaks.
        """
        for each in self._recalls():
            if each.model_sha256 == self.model.sha256:
                says = f"This version of the model was recalled: {each.recall.reason}"
                return NotAnalysed(Reason.MODEL_RECALLED, says, self.model)
        return self._reader.read(images)
