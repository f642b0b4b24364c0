"""The deployable project: settings read from the environment, URLs, server entry points, and the admin's site.

It also decides how connections to PostgreSQL are checked before reuse, and where sessions are looked for.
"""
