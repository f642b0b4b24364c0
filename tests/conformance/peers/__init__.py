"""The three projects that the matrix compares, each a settings module; the servers of the tests start them."""
