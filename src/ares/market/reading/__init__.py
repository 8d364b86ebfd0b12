"""Files into rows: checked before they are decoded, read in chunks."""
