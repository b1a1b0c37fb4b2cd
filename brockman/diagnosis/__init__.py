"""Find out why nothing arrives, for `brockman check` and `manage.py focuslab_check`.

settings -> route, tls, certificate -> exchange; spool     (the steps, in the order of the way)
finding: what a step saw, and the conclusion; examination: runs the steps; command: prints what they find
"""
