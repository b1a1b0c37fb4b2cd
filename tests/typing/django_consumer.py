"""How a Django project uses its client; see `consumer`."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy

from brockman import FocusLabClient
from brockman.django.client import DjangoFocusLabClient
from brockman.django.middleware import RequestTracker

client = DjangoFocusLabClient()
anyone: FocusLabClient = client

DjangoFocusLabClient("key", "https://collector.example/api/v1/", max_queue_size=1000, spool_dir="/var/lib/shop")

DjangoFocusLabClient("key", on_errror=print)  # wrong
DjangoFocusLabClient("key", max_queue_size="many")  # wrong
DjangoFocusLabClient("key", overflow="newest")  # wrong
DjangoFocusLabClient("key", before_record=3)  # wrong


def view(request: HttpRequest, user: User, tracker: RequestTracker) -> HttpResponse:
    client.record_trigger(user, "viewed", "page", {"email": str(user.email)})
    client.record_trigger(user, gettext_lazy("viewed"), gettext_lazy("page"), {"page": gettext_lazy("page")})
    client.record_trigger(user.pk, "viewed", "page", variables={"seller": user, "sellers": [user]})
    client.record_trigger_on_commit(user.pk, "ordered", "book", using="other")
    client.send_trigger(user.pk, "viewed", "page")

    client.record_trigger(42, 7, None)  # wrong
    client.record_trigger_on_commit(42, 7, "book")  # wrong
    client.record_trigger_on_commit(42, "ordered", "book", using=3)  # wrong
    client.send_trigger(42, "viewed", None)  # wrong

    tracker.record_trigger("viewed", "page", variables={"tags": ["python"]})
    tracker.record_trigger("viewed", "page", actor_id=user)
    tracker.record_trigger_on_commit(action="ordered", obj="book", using=None)

    tracker.record_trigger("viewed", None)  # wrong
    tracker.record_trigger_on_commit("viewed", 7)  # wrong
    return HttpResponse(b"answered")
