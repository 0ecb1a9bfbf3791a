"""Measurements: ratios of things done side by side in one run, with recall beside every speed."""
