"""Errors of the AI engine.

::

    AiEngineError
    ├── UnreadableImage    the pixels cannot be turned into an input
    ├── OutOfScope         the image is not one the model was built for
    ├── ModelUnavailable   the model package is missing, damaged or refused
    └── ModelFailed        the network ran and gave no usable answer
"""


class AiEngineError(Exception):
    """Base of everything this room raises on purpose."""


class UnreadableImage(AiEngineError):
    """The pixels cannot be turned into an input of the network."""


class OutOfScope(AiEngineError):
    """The image is not one that the model was built for."""


class ModelUnavailable(AiEngineError):
    """The model package is missing, damaged, or its checksum is wrong. Refuse to start."""


class ModelFailed(AiEngineError):
    """The network ran and gave no usable answer, such as a probability that is not a number."""
