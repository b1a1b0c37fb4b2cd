"""From the buffer to the transport: one worker, and the engine that decides what an answer means."""
