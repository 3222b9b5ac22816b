"""Heritage: damage inspection for photographs of historic buildings."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heritage.inspection import Inspection, Inspector

__all__ = ["Inspection", "Inspector"]
__version__ = "0.4.0"
logging.getLogger(__name__).addHandler(logging.NullHandler())  # errors are told by who raises them


def __getattr__(name: str) -> Any:
    # On demand, because it loads torch, which the app's first page can do without.
    if name in __all__:
        from heritage import inspection

        return getattr(inspection, name)
    raise AttributeError(f"module 'heritage' has no attribute {name!r}")
