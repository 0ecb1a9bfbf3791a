"""The catalogue folder: its database and files, reading, writing and checking."""
