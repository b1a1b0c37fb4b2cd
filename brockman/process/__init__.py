"""The process around a client: forks, exit, signals, threads, clock and log."""
