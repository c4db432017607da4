"""Automatic search of a recipe's settings (pip install 'kdkeras[search]')."""

from kdkeras.search.ending import summary
from kdkeras.search.running import run

__all__ = ["run", "summary"]
