"""Raw datasets to catalog and store, one source per file."""
