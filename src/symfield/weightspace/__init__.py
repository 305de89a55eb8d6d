"""Symmetries of the parameters at fixed function: derived from any ``nn.Module``, and certified."""

__all__: list[str] = []
