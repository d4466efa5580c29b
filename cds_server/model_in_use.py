"""The model that this server reads with."""

from ai_engine.bundle import Bundle, default_bundle_path, load_bundle
from ai_engine.engine import Engine
from ai_engine.inference_process import InferenceProcess
from ai_engine.publishers import Publishers
from cds_server.config import Settings


def bundle_in_use(settings: Settings) -> Bundle:
    """Load and verify the model that the settings name, or the one that ships.

    Raises
    ------
    ModelUnavailable
        If the bundle is not wholly as a trusted publisher signed it.
    """
    publishers = Publishers.trusted(settings.model_publishers)
    return load_bundle(settings.model or default_bundle_path(), publishers)


def reader(settings: Settings) -> Engine:
    """Make the model ready to read, in a process of its own.

    Raises
    ------
    ModelUnavailable
        If the bundle does not verify, or the process does not start.
    """
    bundle = bundle_in_use(settings)
    process = InferenceProcess(
        bundle,
        settings.data_dir / "inference",
        precision=settings.precision.value,
        threads=settings.threads,
    )
    process.warm()
    return Engine(bundle, process)
