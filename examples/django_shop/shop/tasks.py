"""Background tasks."""

from celery import shared_task

from brockman.django.client import DjangoFocusLabClient
from shop.models import Order

client = DjangoFocusLabClient()


@shared_task
def ship(order_id: int) -> None:
    """Ship an order. The actor is that of the order, so FocusLab joins both."""
    order = Order.objects.select_related("book").get(pk=order_id)
    if order.actor_id is not None:
        client.record_trigger(order.actor_id, "was sent", "book", variables={"title": order.book.title})
