"""What runs, studies and ablations measured, as files."""
