"""Cards and tables, rendered from results."""
