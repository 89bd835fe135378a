"""Fine-tuning an LLM: messages prepared, checked and priced, taught by whichever provider."""
