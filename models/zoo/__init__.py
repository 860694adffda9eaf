"""The zoo: one TOML card a model, the bundled weights, and the road from a card to a loaded network."""
