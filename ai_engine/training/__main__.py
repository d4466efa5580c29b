"""Make the bundle that ships: ``python -m ai_engine.training --data DATA --out BUNDLE``."""

import argparse
from pathlib import Path

from ai_engine.publishers import SigningKey
from ai_engine.training.export import export
from ai_engine.training.train import Recipe, train


def main() -> None:
    """Train, evaluate on held-out patients, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with nih_cxr and kermany")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument("--publisher", required=True, help="name of who signs it")
    parser.add_argument("--key", type=Path, required=True, help="their private key, PEM, Ed25519")
    arguments = parser.parse_args()
    key = SigningKey.from_file(arguments.publisher, arguments.key)
    recipe = Recipe()
    network, findings = train(arguments.data, recipe)
    export(network, findings, arguments.data, recipe, arguments.out, key)


if __name__ == "__main__":
    main()
