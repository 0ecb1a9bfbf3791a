"""Typed columns of the items' metadata: a filter is evaluated on them in milliseconds, where JSON text takes seconds."""
