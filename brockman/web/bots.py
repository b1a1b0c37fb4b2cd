"""Programs that are no visitors, by what they say of themselves in `User-Agent`."""

from __future__ import annotations

import re

# Words that the user agents of crawlers, previews, monitors and health probes have, and those of browsers do not
# (Cubot makes phones). Libraries such as curl are not among them: they may be clients of an API, used by actors.
_MARKS = re.compile(
    "(?<!cu)bot(?![a-z])|crawl|spider|slurp|archiver|scrap|preview|facebookexternalhit|embedly|headlesschrome"
    "|lighthouse|pingdom|uptime|statuscake|monitor|nagios|zabbix|datadog|newrelicpinger|site24x7|checkly|blackbox"
    "|kube-probe|googlehc|health[- ]?check|health[- ]?probe|load balancer agent|alwayson|haproxy|prometheus",
    re.IGNORECASE,
)


def is_bot(user_agent: str) -> bool:
    """Return True for the user agent of a crawler, a monitor or a health probe, and for an empty one."""
    return not user_agent or _MARKS.search(user_agent) is not None
