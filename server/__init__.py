"""The HTTP service: API, request gateway, runtime and telemetry."""
