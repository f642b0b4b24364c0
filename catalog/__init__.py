"""The domain: galleries, screenshots, renditions and tags, and everything that reads or writes them."""
