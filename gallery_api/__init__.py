"""The deployable project: settings, URLs and server entry points; no logic."""
