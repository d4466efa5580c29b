"""Training, evaluation and export of bundles. Needs the ``[torch]`` extra."""
