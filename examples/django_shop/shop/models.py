"""Books and orders."""

from django.db import models


class Book(models.Model):
    """A book for sale."""

    title = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=6, decimal_places=2)
    stock = models.PositiveIntegerField()


class Order(models.Model):
    """An order of one book."""

    book = models.ForeignKey(Book, on_delete=models.PROTECT)
    actor_id = models.UUIDField(null=True)  # the actor in FocusLab; None if the visitor is not tracked
    ordered_at = models.DateTimeField(auto_now_add=True)
