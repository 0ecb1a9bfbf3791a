"""Tests that use real parts: files, weights, SQLite, served processes and a browser."""
