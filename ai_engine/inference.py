"""What running a network means, whatever runs it: logits, and maps that add up to them."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import ModelFailed
from ai_engine.preprocess import InputSpec, network_input

Precision = Literal["f32", "f16"]
Inferred = tuple[NDArray[np.float32], NDArray[np.float32]]

_TOLERANCE: dict[Precision, float] = {"f32": 1e-3, "f16": 5e-2}
"""Largest difference between map mean plus bias and the logit that rounding explains."""


class Runtime(Protocol):
    """Runs the graph of one bundle."""

    def infer(self, network_input: NDArray[np.float32]) -> Inferred:
        """Run the graph once.

        Parameters
        ----------
        network_input
            **shape** ``(1, channels, rows, columns)``, of ``preprocess.network_input``.

        Returns
        -------
        tuple[NDArray[np.float32], NDArray[np.float32]]
            Logits **shape** ``(findings,)`` and saliency maps **shape** ``(findings, rows,
            columns)``: the mean of a map plus the bias of its finding is its logit.

        Raises
        ------
        ModelFailed
            If there is no usable answer.
        """
        ...


def checked(inferred: Inferred, head_bias: tuple[float, ...], precision: Precision) -> Inferred:
    """Give what a graph gave, if it can be believed.

    Parameters
    ----------
    inferred
        Logits and maps.
    head_bias
        Of each finding.
    precision
        Of the arithmetic.

    Raises
    ------
    ModelFailed
        If a value is no number, the shapes are not those of the findings, or the maps do not add
        up to the logits: then they explain something else.
    """
    logits, maps = inferred
    if logits.shape != (len(head_bias),) or maps.shape[:1] != logits.shape or maps.ndim != 3:  # noqa: PLR2004 - findings, rows, columns
        msg = f"the graph gives {logits.size} findings, the bundle names {len(head_bias)}"
        raise ModelFailed(msg)
    if not (np.isfinite(logits).all() and np.isfinite(maps).all()):
        msg = "the network gave values that are no numbers"
        raise ModelFailed(msg)
    difference = np.abs(maps.mean((1, 2)) + np.array(head_bias, np.float32) - logits).max()
    if difference > _TOLERANCE[precision] * max(1.0, float(np.abs(logits).max())):
        msg = f"the saliency maps do not add up to the result (difference {difference:.2g})"
        raise ModelFailed(msg)
    return inferred


def prove(runtime: Runtime, spec: InputSpec) -> None:
    """Run a graph on noise that is the same everywhere, and believe what it gives, or raise.

    Parameters
    ----------
    runtime
        Of the graph.
    spec
        What the bundle says that it takes.

    Raises
    ------
    ModelFailed
        If there is no usable answer.
    ModelUnavailable
        If the graph cannot be run at all.
    """
    noise = np.random.default_rng(1).random((spec.rows, spec.columns), np.float32)
    runtime.infer(network_input(noise, spec))
