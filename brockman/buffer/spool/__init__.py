"""Triggers on disk: how they lie in files, whose the files are, and what becomes of those whose owner is gone.

frame -> segment -> reader -> writer     what one process writes and reads on
folder -> adoption                       whose it is, and who takes it over when nobody is left
spool_dir, strays                        whether the place is safe, and what a fork must not keep
inspect_spool                                   what a spool holds, for who only looks
quota, syncing, mapping, damage, notice  how much may lie there, how it reaches the disk, and what is amiss
"""
