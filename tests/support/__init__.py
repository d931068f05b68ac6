"""What the tests of several rooms need, and those of the app."""
