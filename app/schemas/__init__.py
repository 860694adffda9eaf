"""The wire types: options, responses, status and export formats."""
