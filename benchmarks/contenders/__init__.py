"""Who is measured. A contender is one file here, imported in that contender's own interpreter, and a row of this table.

The file defines ``Adapter``, which does the common work with the contender's library (see ``benchmarks.worker``).
"""

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import ROOT

__all__ = ["CONTENDERS", "PEERS", "SDKS", "Contender"]

_REQUIREMENTS = ROOT / "benchmarks" / "requirements"
_SETTINGS = (("OPENAI_API_KEY", "none"), ("ANTHROPIC_API_KEY", "none"), ("NO_COLOR", "1"))


@dataclass(frozen=True)
class Contender:
    """A library and how to get an interpreter that has it.

    Attributes:
        name: its file in this package, its column in tables.
        module: what its users import.
        entry: the class that they import from it.
        locked: whether it has an environment of its own, into which pip installs ``benchmarks/requirements/NAME.txt``;
            without it, it is this library, as it lies here.
        variables: environment variables that it needs to work without the network, and within this directory.
    """

    name: str
    module: str
    entry: str
    locked: bool = True
    variables: tuple[tuple[str, str], ...] = ()

    def interpreter(self) -> Path:
        """Its Python. The environment is made when it is first needed, and kept."""
        if not self.locked:
            return Path(sys.executable)
        lock = _REQUIREMENTS / f"{self.name}.txt"
        place = ROOT / "benchmarks" / ".venvs" / self.name
        python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
        installed = place / "installed"
        if not installed.exists() or installed.read_bytes() != lock.read_bytes():
            venv.create(place, clear=True, with_pip=True)
            install = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
            subprocess.run([*install, "-r", lock], check=True)
            shutil.copyfile(lock, installed)
        return python

    @property
    def requirement(self) -> str:
        """What its environment was asked to have, for the report."""
        lines = (_REQUIREMENTS / f"{self.name}.in").read_text().splitlines()
        return " ".join(line.partition(" ;")[0] for line in lines)

    def environment(self) -> dict[str, str]:
        """Environment variables for its processes: nothing of the user's that could change how it works."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SYSTEMROOT") if name in os.environ}
        own = {} if self.locked else {"PYTHONPATH": str(ROOT / "src")}
        return kept | own | dict(self.variables) | dict(_SETTINGS)


def _by_name(*contenders: Contender) -> dict[str, Contender]:
    return {contender.name: contender for contender in contenders}


CONTENDERS = _by_name(
    Contender("ours", "lm_deluge", "LLMClient", locked=False),
    Contender("reference", "lm_deluge", "LLMClient"),
)

# Libraries of which only the caches are measured (see ``benchmarks.caches``).
_OFFLINE = (("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("DSPY_CACHEDIR", str(ROOT / "benchmarks" / ".work" / "dspy")))
PEERS = _by_name(
    Contender("langchain", "langchain_core", "caches"),
    Contender("dspy", "dspy", "LM", variables=_OFFLINE),
    Contender("litellm", "litellm", "Cache", variables=_OFFLINE),
)

# What people use where prompts are sent without a batch client (see ``benchmarks.fan_out``).
SDKS = _by_name(Contender("anthropic", "anthropic", "AsyncAnthropic"))
