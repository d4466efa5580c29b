"""Errors of the AI engine.

::

    AiEngineError
    ├── UnreadableImage    the pixels cannot be turned into an input
    ├── OutOfScope         the image is not one the model was built for
    ├── ModelUnavailable   the model package is missing, damaged or refused
    ├── ModelFailed        the network ran and gave no usable answer
    ├── NotMeasurable      no honest figure can be made of these predictions
    ├── LabelsRefused      labels that cannot be trained or evaluated on
    ├── ImagesMissing      images that the labels name are not there
    ├── ConfigurationRefused  a training configuration that makes no sense
    ├── RunRefused         a run folder of another configuration
    ├── TrainingFailed     training cannot go on
    ├── TrainingStopped    training was stopped on purpose
    └── NotExplainable     the named layer gives no map that explains it
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


class NotMeasurable(AiEngineError):
    """Predictions or labels that no honest figure can be made of. The message says what to mend."""


class LabelsRefused(AiEngineError):
    """A label file, or the labels in it, cannot be trained or evaluated on."""


class ImagesMissing(AiEngineError):
    """Images that the labels name are not there, or cannot be read."""


class ConfigurationRefused(AiEngineError):
    """A key of a training configuration is unknown, of a wrong type, or asks for the impossible."""


class RunRefused(AiEngineError):
    """A run folder is of another configuration, of other labels, or damaged."""


class TrainingFailed(AiEngineError):
    """Training cannot go on: no such device, too little memory, or a loss that is no number."""


class TrainingStopped(AiEngineError):
    """Training was stopped on purpose, and a checkpoint holds all of it."""


class NotExplainable(AiEngineError):
    """The layer of a network that was named for explanation gives no map that explains it."""
