"""Where triggers wait: one interface, `put`, `take`, `settle`."""
