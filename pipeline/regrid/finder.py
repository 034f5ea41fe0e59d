"""Makes `import esmpy` find the NumPy engine where native ESMF is not installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME = "esmpy"
_ENGINE = "pipeline.regrid.esmpy_engine"


class _EngineLoader(Loader):
    """Gives the engine's modules a second name instead of a second copy."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The engine's module of this name."""
        module = importlib.import_module(_ENGINE + spec.name[len(_NAME) :])
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: it ran when it was imported. Its own name stays."""
        module.__spec__ = self._own_spec


class EngineFinder(MetaPathFinder):
    """Finds `esmpy` and its submodules; stands last, so that an installed esmpy is found first."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The engine, for `esmpy` and what is under it."""
        if fullname != _NAME and not fullname.startswith(_NAME + "."):
            return None
        return ModuleSpec(fullname, _EngineLoader(), is_package=fullname == _NAME)


def install() -> None:
    """Append the finder to `sys.meta_path`, once. Safe to call again."""
    if not any(isinstance(finder, EngineFinder) for finder in sys.meta_path):
        sys.meta_path.append(EngineFinder())


def engine() -> tuple[str, str]:
    """Name and version of the engine behind xESMF here, for provenance: ours, or ``("ESMF", version)``."""
    install()
    module = importlib.import_module(_NAME)
    return getattr(module, "__engine__", "ESMF"), str(getattr(module, "__version__", "unknown"))
