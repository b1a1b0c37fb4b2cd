"""From the arguments of `record_trigger` to the bytes of a request: values only, no I/O."""
