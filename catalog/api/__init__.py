"""The API: translates HTTP into querysets and calls of `catalog.curation`, and rows into representations."""
