"""Run a bundle's graph on the CPU, with its precision set explicitly."""

import json
import threading
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ai_engine.bundle import Bundle
from ai_engine.errors import ModelFailed, ModelUnavailable
from ai_engine.silent_openvino import openvino

Precision = Literal["f32", "f16"]

# Largest difference between map mean plus bias and the logit that rounding explains.
_TOLERANCE = {"f32": 1e-3, "f16": 5e-2}


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
        self._bias = np.array(bundle.head_bias, dtype=np.float32)
        self._tolerance = _TOLERANCE[precision]
        self._one_at_a_time = threading.Lock()
        core = openvino.Core()
        weights = openvino.Tensor(np.frombuffer(bundle.graph_bin, dtype=np.uint8))
        try:
            graph = core.read_model(bundle.graph_xml, weights)
            self._compiled = core.compile_model(
                graph,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": precision,
                    "INFERENCE_NUM_THREADS": str(threads),
                    "PERFORMANCE_HINT": "LATENCY",
                },
            )
        except RuntimeError as error:
            msg = f"model {bundle.identity.name}: the graph cannot be compiled ({_first(error)})"
            raise ModelUnavailable(msg) from error

    def infer(
        self, network_input: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the graph once.

        Parameters
        ----------
        network_input
            **shape** ``(1, 1, rows, columns)``, of ``preprocess.network_input``.

        Returns
        -------
        tuple[NDArray[np.float32], NDArray[np.float32]]
            Logits **shape** ``(findings,)`` and saliency maps **shape** ``(findings, rows,
            columns)``: the mean of a map plus the bias of its finding is its logit.

        Raises
        ------
        ModelFailed
            If an output is no number, or the maps do not add up to the logits.
        """
        with self._one_at_a_time:
            outputs = self._compiled([network_input])
        logits = np.array(outputs[0][0], dtype=np.float32)
        maps = np.array(outputs[1][0], dtype=np.float32)
        if not (np.isfinite(logits).all() and np.isfinite(maps).all()):
            msg = "the network gave values that are no numbers"
            raise ModelFailed(msg)
        difference = np.abs(maps.mean((1, 2)) + self._bias - logits).max()
        if difference > self._tolerance * max(1.0, float(np.abs(logits).max())):
            msg = f"the saliency maps do not add up to the result (difference {difference:.2g})"
            raise ModelFailed(msg)
        return logits, maps


def _first(error: RuntimeError) -> str:
    """Give the first line of a message that may run to many."""
    return json.dumps(str(error).strip().splitlines()[0] if str(error).strip() else "no reason")
