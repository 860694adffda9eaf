"""DeepStack, and what CodeProject.AI has beside it."""
