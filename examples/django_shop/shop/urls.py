"""URLs of the pages."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("books/<int:pk>/", views.book, name="book"),
    path("books/<int:pk>/order/", views.order, name="order"),
]
