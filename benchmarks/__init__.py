"""Measurements: ratios of things done side by side in one run, with recall next to every speed."""
