"""A small shop that tells FocusLab what its visitors do."""

from shop.celery import app as celery_app

__all__ = ("celery_app",)
