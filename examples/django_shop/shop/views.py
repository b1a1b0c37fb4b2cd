"""The pages."""

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from brockman.django.celery.tasks import record_trigger
from brockman.django.client import DjangoFocusLabClient
from shop.models import Book, Order
from shop.tasks import ship

client = DjangoFocusLabClient()  # its triggers have the visitor of the request as their actor


class SoldOut(Exception):
    """No book is left."""


def catalogue(request: HttpRequest) -> HttpResponse:
    """Show all books."""
    client.record_trigger(action="viewed", obj="catalogue")
    return render(request, "shop/catalogue.html", {"books": Book.objects.all()})


def book(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one book, and a button."""
    found = get_object_or_404(Book, pk=pk)
    client.record_trigger(action="viewed", obj="book", variables={"title": found.title, "price": found.price})
    return render(request, "shop/book.html", {"book": found})


@require_POST
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """Order a book. The triggers are recorded only if the order is committed."""
    ordered = get_object_or_404(Book, pk=pk)
    variables = {"title": ordered.title, "price": ordered.price}
    try:
        with transaction.atomic():
            had_one = Book.objects.filter(pk=pk, stock__gt=0).update(stock=F("stock") - 1)
            placed = Order.objects.create(book=ordered, actor_id=request.focuslab.actor_id)
            client.record_trigger_on_commit(action="ordered", obj="book", variables=variables)
            if request.focuslab.is_tracked:  # sent as a Celery task
                record_trigger.delay_on_commit(request.focuslab.actor_id, "paid", "book", variables=variables)
            transaction.on_commit(lambda: ship.delay(placed.pk))
            if not had_one:
                raise SoldOut  # rolls back all of the above
    except SoldOut:
        return render(request, "shop/sold_out.html", status=409)
    return render(request, "shop/thanks.html")
