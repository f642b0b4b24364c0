"""What docs/deploy/ promises, held by the real programs: Varnish and nginx before an origin that does as it is told.

`origin` is that origin, `programs` how Varnish and nginx run. Before the real server: `test_gallery.py`.
"""
