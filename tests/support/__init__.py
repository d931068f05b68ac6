"""What several directories of tests need, and those of the app."""
