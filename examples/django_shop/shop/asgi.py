"""For uvicorn and other ASGI servers, which run no exit hooks: `uvicorn shop.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

from brockman.asgi import DeliverOnShutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = DeliverOnShutdown(get_asgi_application())
