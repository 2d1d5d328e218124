"""The life of the component_access_token."""
