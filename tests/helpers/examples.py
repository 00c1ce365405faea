"""The classes of docs/examples, as a reader of the pages would have them."""

import runpy
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(file: str, name: str) -> Any:
    return runpy.run_path(str(EXAMPLES / f"{file}.py"))[name]
