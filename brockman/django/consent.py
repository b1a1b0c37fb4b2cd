"""A function for the setting `FL_MAY_TRACK`, or for your own to call."""

from brockman.web.consent import without_objection

__all__ = ["without_objection"]
