"""audiorep: learn representations of sound, above all animal sound."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiorep.api import Loaded as Loaded
    from audiorep.api import load as load

__version__ = "0.1.0"

__all__ = ["Loaded", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Loaded` when they are first asked for: `audiorep --version` need not wait for torch."""
    if name in ("Loaded", "load"):
        from audiorep import api

        return getattr(api, name)
    raise AttributeError(f"module 'audiorep' has no attribute '{name}'")
