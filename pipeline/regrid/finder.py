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
    """Gives the engine a second name instead of a second copy."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002
        """The engine."""
        module = importlib.import_module(_ENGINE)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run, it ran when it was imported; its modules get their second names too."""
        module.__spec__ = self._own_spec
        for name in [name for name in sys.modules if name.startswith(_ENGINE + ".")]:
            sys.modules.setdefault(_NAME + name[len(_ENGINE) :], sys.modules[name])


class EngineFinder(MetaPathFinder):
    """Finds `esmpy`; stands last, so that an installed esmpy is found first."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The engine, for `esmpy`."""
        return ModuleSpec(_NAME, _EngineLoader(), is_package=True) if fullname == _NAME else None


def install() -> None:
    """Append the finder to `sys.meta_path`, once. Safe to call again."""
    if not any(isinstance(finder, EngineFinder) for finder in sys.meta_path):
        sys.meta_path.append(EngineFinder())


def engine() -> tuple[str, str]:
    """Name and version of the engine behind xESMF here, for provenance: ours, or ``("ESMF", version)``."""
    install()
    module = importlib.import_module(_NAME)
    return getattr(module, "__engine__", "ESMF"), str(getattr(module, "__version__", "unknown"))
