"""Replays a scenario through a running system and checks what came of it from the public topics alone."""
