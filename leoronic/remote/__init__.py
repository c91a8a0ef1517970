"""Remote functions, actors and objects, in Ray's style.

`leoronic.remote` is this package and the decorator at the same time: it can be called.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


class _Decorator(types.ModuleType):
    """This module, so that `@leoronic.remote` works whatever was imported before."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """As `declaring.remote`."""
        from leoronic.remote.declaring import remote  # noqa: PLC0415 - nothing is loaded until used

        return remote(*args, **options)

    def __reduce__(self) -> Any:
        # The code that people send holds it, and pickles know plain modules only.
        return importlib.import_module, (__name__,)


sys.modules[__name__].__class__ = _Decorator
