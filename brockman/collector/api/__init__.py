"""The handlers of the API, a module for each resource."""
