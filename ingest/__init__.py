"""Pictures into a catalogue: where they come from, and the pipeline that embeds and writes them."""
