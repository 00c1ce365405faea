"""Command line: see `python -m tests.fuzz --help`."""

import argparse
import sys
from pathlib import Path

from tests.fuzz.session import fuzz


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description="Read damaged inputs of every kind.")
    parser.add_argument("--inputs", type=int, default=2000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="such as images,labels; all if missing")
    parser.add_argument("--only", default="", help="one input again, such as images:1234")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that fail (with --only: for that one)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report", type=Path, help="folder for fuzz.json and fuzz.md")
    return fuzz(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
