"""A reasoning trace and its spans."""
