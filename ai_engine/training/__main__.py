"""Make the bundle that ships: ``python -m ai_engine.training --data DATA --out BUNDLE``."""

import argparse
from pathlib import Path

from ai_engine.training.export import export
from ai_engine.training.train import Recipe, train


def main() -> None:
    """Train, evaluate on held-out patients, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with nih_cxr and kermany")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    arguments = parser.parse_args()
    recipe = Recipe()
    network, findings = train(arguments.data, recipe)
    export(network, findings, arguments.data, recipe, arguments.out)


if __name__ == "__main__":
    main()
