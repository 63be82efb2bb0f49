"""Programs that treat the client badly and count what it costs, and their short forms as tests."""
