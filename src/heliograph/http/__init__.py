"""The HTTP edge: requests in, use cases, problems out."""
