"""Fine-tuning an LLM: messages prepared, checked and priced, then trained on by any provider."""
