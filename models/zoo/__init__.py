"""The model zoo: one TOML card per model, the bundled weights, and loading a network from a card."""
