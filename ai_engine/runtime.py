"""Run a bundle's graph on the CPU, with its precision set explicitly."""

import io
import json
import threading

import numpy as np
from numpy.typing import NDArray

from ai_engine.bundle import Bundle
from ai_engine.errors import ModelUnavailable
from ai_engine.inference import Inferred, Precision, checked
from ai_engine.silent_openvino import openvino


class CpuRuntime:
    """OpenVINO on the CPU. Build it in the process that uses it: a session must not be forked.

    Parameters
    ----------
    bundle
        The verified model.
    precision
        Arithmetic. Never left to the runtime, whose default differs from host to host.
    threads
        Of one inference.

    Raises
    ------
    ModelUnavailable
        If the graph cannot be compiled.
    """

    def __init__(self, bundle: Bundle, *, precision: Precision = "f32", threads: int = 2) -> None:
        self._bundle = bundle
        self._precision = precision
        self._one_at_a_time = threading.Lock()
        self._compiled = compiled(bundle.graph, precision, threads)

    def infer(self, network_input: NDArray[np.float32]) -> Inferred:
        """Run the graph once, as ``Runtime`` says.

        Raises
        ------
        ModelFailed
            If an output is no number, or the maps do not add up to the logits.
        """
        with self._one_at_a_time:
            outputs = self._compiled([network_input])
            logits = np.array(outputs[0][0], dtype=np.float32)
            maps = np.array(outputs[1][0], dtype=np.float32)
        return checked((logits, maps), self._bundle.head_bias, self._precision)


def compiled(graph: bytes, precision: Precision, threads: int) -> openvino.CompiledModel:
    """Make a graph ready to run.

    Parameters
    ----------
    graph
        ONNX.
    precision, threads
        Of one inference.

    Raises
    ------
    ModelUnavailable
        If it cannot be compiled.
    """
    core = openvino.Core()
    try:
        return core.compile_model(
            core.read_model(io.BytesIO(graph)),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": str(threads),
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
    except RuntimeError as error:
        msg = f"the graph of the model cannot be compiled ({_first(error)})"
        raise ModelUnavailable(msg) from error


def _first(error: Exception) -> str:
    """Give the first line of a message that may run to many."""
    return json.dumps(str(error).strip().splitlines()[0] if str(error).strip() else "no reason")
