"""The wire types: options, answers, status and export formats."""
