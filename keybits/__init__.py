"""Key constructors, stamps and entries: HTTP caching for Django REST framework that is never stale."""
