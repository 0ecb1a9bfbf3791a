"""How BentoML runs the service: the Extractor, its client, start, shutdown and worker processes."""
