"""The memory-mapped hnswlib index: file layout, codes, build, search, filters and warm-up."""
