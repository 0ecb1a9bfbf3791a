"""How BentoML runs the service: the Extractor, its client, start, shutdown and worker processes.

``bootstrap`` and ``extractor`` are imported by name, and first: what they do has to come before other imports.
"""
