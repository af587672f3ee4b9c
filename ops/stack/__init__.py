"""The embedded stack: a broker, a Redis-compatible server and workers as processes of this machine."""
