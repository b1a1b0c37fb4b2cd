"""What the shop sells, and to whom."""

from django.db import models


class Book(models.Model):
    """Something to buy."""

    title = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=6, decimal_places=2)
    stock = models.PositiveIntegerField()


class Order(models.Model):
    """Something bought."""

    book = models.ForeignKey(Book, on_delete=models.PROTECT)
    actor_id = models.UUIDField(null=True)  # as FocusLab knows who ordered; None for who is not tracked
    ordered_at = models.DateTimeField(auto_now_add=True)
