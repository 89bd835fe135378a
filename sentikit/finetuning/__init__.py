"""Fine-tuning of LLMs: recipes, and the interface of fine-tuners."""
