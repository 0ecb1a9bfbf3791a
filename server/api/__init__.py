"""The HTTP API: routes, requests, responses, errors and their OpenAPI description.

Its modules are imported by name: the command line needs the schemas, and not what BentoML takes a second to import for.
"""
