"""The peers: the same page from the same rows, as others would serve it."""
