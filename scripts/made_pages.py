"""Pages that are made from the code, and never edited: written, or compared with what there is."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_compare(
    documents: Callable[[], Mapping[Path, str]],
    *,
    root: Path,
    command: str,
    what: str,
    arguments: Sequence[str] | None,
) -> int:
    """Write pages, or compare them; gives the exit code.

    Parameters
    ----------
    documents
        Gives each page by its path below ``root``.
    root
        The repository.
    command
        What writes them, for people.
    what
        What the command does, in words.
    arguments
        Of the command line: ``--check`` compares, and writes nothing.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = parser.parse_args(arguments).check
    differing = []
    for path, content in documents().items():
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != content:
            differing.append(path)
            if not check:
                (root / path).write_text(content, encoding="utf-8")
    for path in differing:
        sys.stdout.write(f"{path}: {'differs; run' if check else 'written by'} {command}\n")
    return 1 if check and differing else 0
