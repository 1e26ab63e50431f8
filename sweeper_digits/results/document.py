"""What `--json` prints: one JSON document. It imports nothing heavy."""

import json
import math
from collections.abc import Mapping
from typing import Any


def as_json(document: Any) -> str:
    """Return a document as JSON in lines: what is missing or no finite number is null, a path is text."""
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if hasattr(value, "tolist"):  # NumPy's
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)
