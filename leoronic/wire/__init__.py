"""Speaks. Frames as sans-IO code, an orjson codec with validation, and one asyncio protocol."""
