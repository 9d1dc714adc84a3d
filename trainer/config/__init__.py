"""Everything that a user can set: the dataclasses and their checks, the presets, a configuration as JSON and back."""
