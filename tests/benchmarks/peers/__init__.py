"""brockman beside a floor and other trackers, in one run: `python -m tests.benchmarks.peers --help`."""
