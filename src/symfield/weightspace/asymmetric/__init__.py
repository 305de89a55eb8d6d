"""Models whose units cannot be exchanged: fixed entries, conversion of any model, and checks of what is guaranteed."""
