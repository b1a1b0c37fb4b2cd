"""The cost of a middleware for a request, beside that of others: `python -m tests.benchmarks.middleware`."""
