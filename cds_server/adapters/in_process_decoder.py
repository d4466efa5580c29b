"""A decoder without a process of its own, for tests only: ``bootstrap`` builds none.

It checks what the sandboxed one checks, and is bounded in neither time nor memory.
"""

from io import BytesIO

from pydicom.dataset import Dataset

from cds_server.adapters.opened_instance import for_model, for_viewer, header_alone
from cds_server.imaging import DecodedInstance
from fhir_mappers.viewer_images import Pixels


class InProcessDecoder:
    """Opens instances where it is called."""

    def decode(self, instance: bytes) -> DecodedInstance:
        """Open an instance for the model."""
        opened = for_model(BytesIO(instance))
        return DecodedInstance(opened.header.dataset(), opened.image)

    def header(self, instance: bytes) -> Dataset:
        """Open the header of an instance alone."""
        return header_alone(BytesIO(instance)).dataset()

    def pixels(self, instance: bytes, frame: int) -> Pixels:
        """Open one frame of an instance for the viewer; frames count from 0."""
        return for_viewer(BytesIO(instance), frame)
