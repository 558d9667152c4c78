"""audiorep: learn representations of sound, above all animal sound."""

__version__ = "0.1.0"
