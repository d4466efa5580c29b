"""The AI engine: the images of one study in, a triage result or the reason for none out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ai_engine import triage_rule
from ai_engine.bundle import Bundle, load_bundle
from ai_engine.image import Image
from ai_engine.inference import Precision, Runtime
from ai_engine.preprocess import network_input
from ai_engine.publishers import Publishers
from ai_engine.result import (
    ModelIdentity,
    NotAnalysed,
    Outcome,
    Reason,
    Saliency,
    TriageResult,
)


class Engine:
    """Reads studies with one model.

    Parameters
    ----------
    bundle
        The verified model.
    runtime
        What runs its graph.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self._bundle = bundle
        self._runtime = runtime

    @classmethod
    def from_path(
        cls,
        path: Path,
        *,
        publishers: Publishers | None = None,
        precision: Precision = "f32",
        threads: int = 2,
    ) -> Self:
        """Load and verify a bundle, and make it ready to run in this process.

        Parameters
        ----------
        path
            Folder of the bundle.
        publishers
            Whose models are run; those that ship with the package unless given.
        precision, threads
            Of ``CpuRuntime``.

        Raises
        ------
        ModelUnavailable
            If the bundle is not wholly as a trusted publisher signed it.
        """
        from ai_engine.runtime import CpuRuntime  # noqa: PLC0415 - not in processes that serve

        bundle = load_bundle(path, publishers)
        return cls(bundle, CpuRuntime(bundle, precision=precision, threads=threads))

    @property
    def model(self) -> ModelIdentity:
        """The model that reads."""
        return self._bundle.identity

    @property
    def model_card(self) -> dict[str, object]:
        """The model's card."""
        return self._bundle.card

    @property
    def modalities(self) -> frozenset[str]:
        """Modalities that the model reads (0008,0060)."""
        return self._bundle.modalities

    def read(self, images: Sequence[Image]) -> Outcome:
        """Read the images of one study; the most urgent of them decides.

        Parameters
        ----------
        images
            Candidates of ``fhir_mappers.selection``; each is checked against the model's scope.

        Returns
        -------
        Outcome
            The result, or why there is none: if no image is in scope, the reason of the first.

        Raises
        ------
        ModelFailed
            If the network gave no usable answer. Never taken for "nothing found".
        """
        refused: NotAnalysed | None = None
        results = []
        for index, image in enumerate(images):
            refusal = self._bundle.scope.refusal(image, self._bundle.familiarity)
            if refusal is None:
                results.append(self._read_one(image, index))
            elif refused is None:
                refused = NotAnalysed(*refusal, self.model)
        if results:
            return min(results, key=_urgency)
        return refused or NotAnalysed(Reason.NO_IMAGE, "The study holds no image.", self.model)

    def _read_one(self, image: Image, index: int) -> TriageResult:
        bundle = self._bundle
        logits, maps = self._runtime.infer(network_input(image.pixels, bundle.input_spec))
        probabilities = {
            label: calibration.probability(float(logit))
            for (label, calibration), logit in zip(bundle.calibration.items(), logits, strict=True)
        }
        return TriageResult(
            priority=triage_rule.priority(probabilities, bundle.operating_points),
            findings=triage_rule.findings(probabilities, bundle.operating_points),
            saliency=tuple(
                Saliency(label, _evidence(grid))
                for label, grid in zip(bundle.findings, maps, strict=True)
            ),
            model=bundle.identity,
            image_index=index,
        )


def _urgency(result: TriageResult) -> tuple[int, float]:
    """Order results: by priority, then by how far above its threshold the strongest finding is."""
    excess = max(finding.probability - finding.threshold for finding in result.findings)
    return result.priority.rank, -excess


def _evidence(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grad-CAM: evidence for the finding, 0 to 1.

    Evidence against is cut off. A map without any evidence for stays zero: noise is never
    stretched into a picture.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, equation 2.
    """
    positive = np.maximum(grid, 0.0)
    strongest = float(positive.max())
    return np.asarray(positive / (strongest or 1.0), dtype=np.float32)
