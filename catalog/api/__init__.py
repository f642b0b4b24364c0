"""The read API: it translates HTTP into querysets, and rows into representations."""
