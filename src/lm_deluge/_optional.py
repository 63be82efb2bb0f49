"""Import of optional dependencies, late and with the command that installs them.

The command names the packages themselves. This project is on no index: a package of its name there is somebody else's.
"""

import importlib
from typing import Any

__all__ = ["NEWER", "PACKAGES", "require"]

NEWER = "Install a newer version of this program, from where you have this one."

PACKAGES = {
    "aiohttp": "aiohttp",
    "leveldb": "plyvel",
    "redis": "redis",
    "testing": "hypothesis pytest",
    "server": "uvicorn httptools",
    "tools": "pydantic",
    "tqdm": "tqdm",
    "yaml": "pyyaml",
}
"""What each extra consists of."""


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import and return ``module``, or say how to install it.

    Raises:
        ImportError: the module is missing; the message holds the ``pip`` command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.partition('.')[0]!r}, which is not installed. "
            f"Install it with: pip install {PACKAGES[extra]}"
        ) from error
