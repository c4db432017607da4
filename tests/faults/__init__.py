"""Faults, on purpose: kills, damage, full disks, nonsense, long use. `python -m tests.faults`."""
