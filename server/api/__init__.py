"""The HTTP API: routes, requests, responses, errors and their OpenAPI description."""
