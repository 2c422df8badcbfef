"""The speed comparison with other libraries: `python -m tests.benchmarks`."""
