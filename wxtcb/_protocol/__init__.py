"""Wire format: endpoints, field names, request and response bodies, error codes."""
