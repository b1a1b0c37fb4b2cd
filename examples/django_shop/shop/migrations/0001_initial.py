"""The tables of the shop, and what it sells."""

import django.db.models.deletion
from django.db import migrations, models


def stock_up(apps, schema_editor):
    """Put books on the shelves. One is sold out."""
    book = apps.get_model("shop", "Book")
    book.objects.create(title="The Lost Event", price="19.90", stock=100_000)
    book.objects.create(title="Queues for Everyone", price="24.50", stock=100_000)
    book.objects.create(title="Exactly Once", price="99.00", stock=0)


class Migration(migrations.Migration):
    """Make them."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Book",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=100)),
                ("price", models.DecimalField(decimal_places=2, max_digits=6)),
                ("stock", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("actor_id", models.UUIDField(null=True)),
                ("ordered_at", models.DateTimeField(auto_now_add=True)),
                ("book", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="shop.book")),
            ],
        ),
        migrations.RunPython(stock_up, migrations.RunPython.noop),
    ]
