"""What people do to a cache: look through it, count, prune, verify, restore (housekeeping), and move it (archive)."""
