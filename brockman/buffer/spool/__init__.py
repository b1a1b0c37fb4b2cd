"""Triggers on disk.

buffer       the buffer: `put` into the writer, `take` from the readers
fallback     the buffer in memory while the disk fails, and the way back
writer       the log of this process: any thread appends
reader       reads segments in order and acknowledges them
segment      one file of frames
frame        the format of a frame, of the header and of an acknowledgement
directory    the spool's directory, shared by all processes
process_dir  one directory for each process, locked by its owner
adoption     takes over the directories of processes that are gone
quarantine   keeps damaged frames
quota        bounds the bytes of the whole spool
fsync        flushes segments to the disk in intervals
inspection   counts and lists triggers for `brockman spool`
"""
