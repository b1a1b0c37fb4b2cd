"""The tracker of a request, and the middlewares that make one."""
