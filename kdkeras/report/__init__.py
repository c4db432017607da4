"""The report of a run, or of several beside one another: one HTML file that needs nothing else."""

from kdkeras.report import page, plots
from kdkeras.report.writing import write

__all__ = ["page", "plots", "write"]
