"""Parts that are chosen by name."""
