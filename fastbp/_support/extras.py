"""Optional packages, imported where they are used."""

import importlib
from typing import Any


def required(module: str, package: str, use: str) -> Any:
    """Import a module of an optional package; if it is missing, say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{use} need {package}: pip install {package}") from error
