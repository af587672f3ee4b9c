"""What the container image is built with; nothing here runs in a service."""
