"""A teacher's answers, paid once: kept by (example id, view), shared by students and settings."""

from kdkeras.cache.filling import fill
from kdkeras.cache.lazily import lazy
from kdkeras.cache.reading import Cache, load

__all__ = ["Cache", "fill", "lazy", "load"]
