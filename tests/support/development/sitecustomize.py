"""Imported by Python when it starts a collector in development mode.

asyncio then logs each callback that takes 0.1 s, and the load of the machine decides which.
"""

import logging

logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))
