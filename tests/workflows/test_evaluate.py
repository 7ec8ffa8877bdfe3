"""Evaluation; that of several processes is tested in `tests/training/test_two_processes.py`."""
