"""Health, metrics, and this description."""

from __future__ import annotations

from brockman.collector.openapi.parts import ERROR, TEXT, Json, an_object, answer, answers, operation, parameter

SCHEMAS: Json = {}
PATHS: Json = {
    "/healthz": {
        "get": operation(
            "health",
            "The health of the collector",
            [parameter("live", TEXT, "Answer 200 also while triggers cannot be stored.")],
            {
                "200": answer("Triggers can be stored.", an_object(status=TEXT)),
                "503": answer("They cannot.", ERROR),
            },
            security=[],
        )
    },
    "/metrics": {
        "get": operation("metrics", "Metrics for Prometheus", [], answers(s200=answer("OK", TEXT, "text/plain")))
    },
    "/openapi.json": {
        "get": operation(
            "openapi",
            "This description",
            [],
            {"200": answer("OK", {"type": "object"}), "403": answer("The `Host` is not accepted.", ERROR)},
            security=[],
        )
    },
}
