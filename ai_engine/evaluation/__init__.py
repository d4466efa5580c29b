"""How good a model is, without flattery. Needs the ``[torch]`` extra to calibrate and to draw."""
