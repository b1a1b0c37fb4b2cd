"""A request's tracker, which knows no framework: for Django, Flask, WSGI and ASGI."""
