"""OpenAI's Chat Completions API, which most other services speak too."""
