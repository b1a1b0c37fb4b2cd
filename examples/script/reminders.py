"""A nightly job that reminds customers by mail, and exits when all triggers are delivered."""

from __future__ import annotations

import sys

from brockman.client import FocusLabClient

CUSTOMERS = [
    {"number": 17, "email": "ada@example.com", "plan": "team", "invoices": ["2025-031", "2025-044"]},
    {"number": 23, "email": "emile@example.com", "plan": "free", "invoices": ["2025-052"]},
    {"number": 42, "email": "ines@example.com", "plan": "business", "invoices": ["2025-007"]},
]


def main() -> int:
    """Remind everyone; return 0 when every trigger has been delivered."""
    with FocusLabClient() as client:  # key and endpoint come from FL_API_KEY and FL_ENDPOINT
        for customer in CUSTOMERS:
            # ... send the mail here ...
            client.record_trigger(
                actor_id=customer["number"],
                action="received",
                obj="payment reminder",
                identities={"email": customer["email"]},
                attributes={"plan": customer["plan"]},
                variables={"invoices": customer["invoices"]},
            )
        result = client.flush(timeout=10)
    print(f"{result.delivered} delivered, {result.rejected} rejected, {result.pending} still on their way")
    return 0 if result.delivered == len(CUSTOMERS) else 1


if __name__ == "__main__":
    sys.exit(main())
