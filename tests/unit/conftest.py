"""Settings of the property tests."""

from hypothesis import settings

# The machine may be busy: no deadline for an example.
settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
