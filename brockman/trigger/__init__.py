"""From the arguments of `record_trigger` to the bytes of a request. No I/O."""
