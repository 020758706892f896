"""Where an error happened, without what it says."""

from __future__ import annotations

import traceback
from pathlib import Path


def place_of(error: BaseException) -> str:
    """`train.py:17 in train`: the innermost line of code that is neither a library nor ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_of_others(frame.filename)]
    if not (own or frames):
        return "an unknown place"
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _is_of_others(filename: str) -> bool:
    ours, python = Path(__file__).parents[1], Path(traceback.__file__).parent
    return filename.startswith(("<", str(ours), str(python))) or any(
        folder in filename for folder in ("site-packages", "dist-packages")
    )
