"""The Django project of the Django tests, for the pages that show code for one."""

from tests.django.conftest import _is_a_site, _no_connection_is_left, project

__all__ = ["_is_a_site", "_no_connection_is_left", "project"]
