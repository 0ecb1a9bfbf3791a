"""Metrics, logs, request context and the live recall."""
