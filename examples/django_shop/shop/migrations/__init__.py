"""The tables, and a few books."""
