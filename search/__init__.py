"""The path of a query, free of HTTP: pictures to vectors to hits."""
